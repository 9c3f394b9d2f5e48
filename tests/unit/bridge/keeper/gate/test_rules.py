"""The closed list of calls: what a job may ask of the Execution API, and what it may not."""

import pytest

from edge_bridge.keeper.gate.rules import CallKind, check
from edge_schemas.gate.execution_paths import split_path
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.jobs import AuxiliaryJob, AuxiliaryKind, TaskIdentity

TI = "01a2020b-14ca-71cd-90f9-af9c47c5bfbd"
OTHER = "01a2020b-14ca-71cd-90f9-af9c47c5bfbe"
PLAIN = TaskIdentity(ti_id=TI, dag_id="d", task_id="t", run_id="manual__2026-01-01T00:00:00+00:00", try_number=1)
MAPPED = PLAIN.model_copy(update={"map_index": 3})
RUN = "manual__2026-01-01T00:00:00%2B00:00"


CALLBACK = AuxiliaryJob(kind=AuxiliaryKind.CALLBACK, id=TI)
CONNECTION_TEST = AuxiliaryJob(kind=AuxiliaryKind.CONNECTION_TEST, id=TI)


def kind(method: str, path: str, query: str = "", owner: TaskIdentity | AuxiliaryJob = PLAIN) -> CallKind | None:
    return check(method, split_path(path), query, owner)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("PATCH", f"task-instances/{TI}/run", CallKind.RUN),
        ("PATCH", f"task-instances/{TI}/state", CallKind.STATE),
        ("PUT", f"task-instances/{TI}/heartbeat", CallKind.HEARTBEAT),
        ("PUT", f"task-instances/{TI}/rtif", CallKind.WRITE),
        ("PATCH", f"task-instances/{TI}/skip-downstream", CallKind.WRITE),
        ("GET", f"task-instances/{TI}/previous-successful-dagrun", CallKind.READ),
        ("GET", "task-instances/count", CallKind.READ),
        ("GET", "task-instances/previous/d/t", CallKind.READ),
        ("GET", f"task-reschedules/{TI}/start_date", CallKind.READ),
        ("PUT", f"store/ti/{TI}/some%2Fkey", CallKind.WRITE),
        ("DELETE", f"store/ti/{TI}", CallKind.WRITE),
        ("POST", f"hitlDetails/{TI}", CallKind.ASK),
        ("GET", "connections/aws_default", CallKind.READ),
        ("GET", "variables/a/deep/key", CallKind.READ),
        ("PUT", "variables/key", CallKind.WRITE),
        ("HEAD", "xcoms/other/run/task/key", CallKind.READ),
        ("GET", "xcoms/other/run/task/key/item/3", CallKind.READ),
        ("POST", f"xcoms/d/{RUN}/t/return_value", CallKind.XCOM),
        ("DELETE", f"xcoms/d/{RUN}/t/a/key", CallKind.WRITE),
        ("POST", "dag-runs/other/run", CallKind.TRIGGER),
        ("POST", "dag-runs/other/run/clear", CallKind.CLEAR),
        ("GET", "assets/by-name", CallKind.READ),
        ("GET", "health/ping", CallKind.READ),
    ],
)
def test_what_the_sdk_calls_is_allowed(method: str, path: str, expected: CallKind) -> None:
    assert kind(method, path) is expected


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", f"task-instances/{OTHER}/run"),
        ("PATCH", f"task-instances/{OTHER}/state"),
        ("PATCH", f"task-instances/{TI.upper()}/state"),
        ("PUT", f"task-instances/{OTHER}/heartbeat"),
        ("GET", f"store/ti/{OTHER}/key"),
        ("DELETE", f"store/ti/{OTHER}"),
        ("GET", f"hitlDetails/{OTHER}"),
        ("GET", f"task-reschedules/{OTHER}/start_date"),
        ("POST", f"xcoms/other/{RUN}/t/key"),
        ("POST", "xcoms/d/other/t/key"),
        ("DELETE", f"xcoms/d/{RUN}/other/key"),
        ("GET", f"connection-tests/{TI}/connection"),
        ("DELETE", "connections/aws_default"),
        ("PUT", "connections/aws_default"),
        ("POST", "variables/key"),
        ("DELETE", "dag-runs/d/r"),
        ("GET", f"connection-tests/{TI}"),
        ("PATCH", f"connection-tests/{OTHER}"),
        ("TRACE", "variables/key"),
    ],
)
def test_everything_else_is_forbidden(method: str, path: str) -> None:
    with pytest.raises(EdgeError) as error:
        kind(method, path)
    assert error.value.code is ErrorCode.FORBIDDEN


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "openapi.json"),
        ("GET", "execution/variables/key"),
        ("GET", "connections/a/b"),
        ("GET", "connections/a%2Fb"),
        ("GET", "connections/"),
        ("GET", "dags/a/b"),
        ("GET", "/variables/key"),
        ("GET", "variables/a%0Ab"),
        ("GET", "variables/a%0A"),
        ("GET", "%2Fhealth%0A"),
        ("GET", "xcoms/d//t/key"),
        ("PUT", "nothing/x"),
        ("POST", f"xcoms/d/{RUN}/t"),
    ],
)
def test_airflow_has_no_such_path(method: str, path: str) -> None:
    """So nothing of that name exists. The line break before last: Airflow's router drops it, and answers `/health`."""
    assert kind(method, path) is None
    assert kind(method, path, owner=CALLBACK) is None


@pytest.mark.parametrize("key", ["/abs", "a//b", "dir/", "", "C:%5Cdata", "100%", "%2e%2e", "a/../b", "%C2%85", "%00"])
def test_a_key_is_free_text(key: str) -> None:
    for method, path, expected in (
        ("GET", f"variables/{key}", CallKind.READ),
        ("PUT", f"variables/{key}", CallKind.WRITE),
        ("DELETE", f"store/ti/{TI}/{key}", CallKind.WRITE),
        ("POST", f"xcoms/d/{RUN}/t/{key}", CallKind.XCOM),
        ("HEAD", f"xcoms/d/{RUN}/other/{key}", CallKind.READ),
    ):
        assert kind(method, path) is expected


def test_an_encoded_slash_separates_as_it_does_in_airflows_server() -> None:
    """`xcoms/d%2Frun…` is read by the server as dag, run, task: the ids are checked as it will read them."""
    with pytest.raises(EdgeError, match="may not"):
        kind("POST", f"xcoms/other%2Frun%2Ftask/d/{RUN}/t/key")
    assert kind("POST", f"xcoms/d%2F{RUN}%2Ft/key") is CallKind.XCOM
    assert kind("PUT", f"variables%2F..%2Ftask-instances/{TI}/rtif") is CallKind.WRITE, "a variable, not rtif"


@pytest.mark.parametrize("query", ["", "map_index=-1", "mapped_length=3", "map_index=-1&map_index=-1"])
def test_an_unmapped_task_writes_its_own_xcoms(query: str) -> None:
    assert kind("POST", f"xcoms/d/{RUN}/t/key", query) is CallKind.XCOM


@pytest.mark.parametrize(
    "query", ["map_index=0", "map_index=-1&map_index=0", "map%5Findex=0", "map_index=", "map_index=-01"]
)
def test_an_unmapped_task_writes_no_other_xcoms(query: str) -> None:
    with pytest.raises(EdgeError) as error:
        kind("POST", f"xcoms/d/{RUN}/t/key", query)
    assert error.value.code is ErrorCode.FORBIDDEN


@pytest.mark.parametrize(("query", "allowed"), [("map_index=3", True), ("map_index=2", False), ("", False)])
def test_a_mapped_task_must_say_its_index(query: str, *, allowed: bool) -> None:
    """Left out it would mean -1, another task instance's."""
    if allowed:
        assert kind("DELETE", f"xcoms/d/{RUN}/t/key", query, MAPPED) is CallKind.WRITE
    else:
        with pytest.raises(EdgeError):
            kind("DELETE", f"xcoms/d/{RUN}/t/key", query, MAPPED)


@pytest.mark.parametrize(
    ("auxiliary", "method", "path", "expected"),
    [
        (CALLBACK, "GET", "connections/smtp_default", CallKind.READ),
        (CALLBACK, "GET", "variables/a/deep/key", CallKind.READ),
        (CALLBACK, "GET", "variables/keys", CallKind.READ),
        (CONNECTION_TEST, "GET", f"connection-tests/{TI}/connection", CallKind.FETCH),
        (CONNECTION_TEST, "PATCH", f"connection-tests/{TI}", CallKind.RESULT),
    ],
)
def test_what_the_sdk_calls_for_an_auxiliary_job_is_allowed(
    auxiliary: AuxiliaryJob, method: str, path: str, expected: CallKind
) -> None:
    assert kind(method, path, owner=auxiliary) is expected


@pytest.mark.parametrize("auxiliary", [CALLBACK, CONNECTION_TEST])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", f"task-instances/{TI}/run"),
        ("PATCH", f"task-instances/{TI}/state"),
        ("PUT", f"task-instances/{TI}/heartbeat"),
        ("GET", f"connection-tests/{OTHER}/connection"),
        ("PATCH", f"connection-tests/{OTHER}"),
        ("GET", f"connection-tests/{TI}"),
        ("PUT", "variables/key"),
        ("DELETE", "variables/key"),
        ("POST", f"xcoms/d/{RUN}/t/key"),
        ("GET", f"xcoms/d/{RUN}/t/key"),
        ("POST", "dag-runs/d/r"),
    ],
)
def test_an_auxiliary_job_has_no_state_and_writes_nothing_else(auxiliary: AuxiliaryJob, method: str, path: str) -> None:
    with pytest.raises(EdgeError) as error:
        kind(method, path, owner=auxiliary)
    assert error.value.code is ErrorCode.FORBIDDEN


def test_one_kind_of_auxiliary_job_may_not_do_the_others_calls() -> None:
    for auxiliary, path in ((CALLBACK, f"connection-tests/{TI}/connection"), (CONNECTION_TEST, "connections/other")):
        with pytest.raises(EdgeError):
            kind("GET", path, owner=auxiliary)


@pytest.mark.parametrize("query", ["a=b#c", "a=b c", "a=\x00", "a=ü", "a=<b>"])
def test_a_query_that_two_servers_could_read_differently_is_refused(query: str) -> None:
    with pytest.raises(EdgeError) as error:
        kind("GET", "variables/key", query)
    assert error.value.code is ErrorCode.INVALID_REQUEST
