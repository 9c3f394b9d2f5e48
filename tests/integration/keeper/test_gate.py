"""The gate in front of a real Execution API: who may call what, and what a repeat gets."""

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from edge_broker.bucket import Bucket
from edge_broker.subjects import RECORDS_BUCKET
from edge_schemas.life.events import AnswerWrite, Finish
from edge_schemas.life.model import JobState, Verdict, WriteAnswer
from support.airflow.keeper import WORKER, Centre, run_body
from support.airflow.real_airflow import DAG_ID, RUN_ID, add_task, change_task, read_task, retry_task

pytestmark = pytest.mark.timeout(180)  # the first one starts Airflow


def state_body(state: str = "success", **more: Any) -> dict[str, Any]:
    return {"state": state, "end_date": datetime.now(UTC).isoformat(), **more}


def success_body() -> dict[str, Any]:
    return state_body(task_outlets=[], outlet_events=[], rendered_map_index=None)


async def test_a_task_runs_from_start_to_success_without_a_token(centre: Centre) -> None:
    """Every call of a simple task, as the SDK makes them; each answer is signed and Airflow's own."""
    ids = add_task()
    await centre.started(ids)
    base = f"task-instances/{ids.ti_id}"
    xcom = f"xcoms/{DAG_ID}/{RUN_ID}/{ids.task_id}/return_value"
    calls: list[tuple[str, str, Any, int]] = [
        ("PATCH", f"{base}/run", run_body(), 200),
        ("PUT", f"{base}/heartbeat", {"hostname": "host-1", "pid": 4711}, 204),
        ("PUT", f"{base}/rtif", {"bash_command": "echo"}, 201),
        ("PUT", "variables/gate%2Ftest", {"value": "v"}, 201),
        ("GET", "variables/gate%2Ftest", None, 200),
        ("GET", "variables/absent", None, 404),
        ("POST", xcom, {"some": "value"}, 201),
        ("GET", xcom, None, 200),
        ("HEAD", xcom, None, 200),
        ("PATCH", f"{base}/state", success_body(), 204),
    ]
    for method, path, body, expected in calls:
        reply = await centre.relay.call(method, ids.job, path, body)
        assert (reply.status, reply.signed, reply.from_airflow) == (expected, True, True), (method, path, reply)
        if reply.body is not None:
            assert reply.headers["Content-Type"] == "application/json"
        assert "Refreshed-API-Token" not in reply.headers
        if method == "HEAD":
            assert reply.headers["Content-Range"] == "map_indexes 1"
    record = await centre.record(ids.job)
    assert (record.accepted_state, record.user_code and record.user_code.pid) == ("success", 4711)
    assert (read_task(ids.ti_id) or {})["state"] == "success"
    _, ended = await centre.records.change(ids.job, Finish(WORKER, 1, None, datetime.now(UTC)))
    assert ended.outcome is not None
    assert ended.outcome.verdict is Verdict.SUCCEEDED


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": b"another-secret" * 4},
        {"skew_s": -120},
        {"skew_s": 120},
        {"send_worker": "plant-2"},
        {"headers": {"Edge-Signature": "v1;1;n;m"}},
        {"headers": {"Edge-Signature": ""}},
        {"headers": {"X-Request-Id": "another-request-id"}},
    ],
)
async def test_what_is_not_signed_rightly_is_refused(centre: Centre, wrong: dict[str, Any]) -> None:
    ids = add_task()
    await centre.started(ids)
    reply = await centre.relay.but(**wrong).call("PATCH", ids.job, f"task-instances/{ids.ti_id}/run", run_body())
    assert (reply.status, reply.code, reply.signed) == (401, "unauthenticated", False)
    assert (await centre.record(ids.job)).user_code is None
    assert (read_task(ids.ti_id) or {})["state"] == "queued"


async def test_only_the_holder_may_call(centre: Centre) -> None:
    ids = add_task()
    path = f"task-instances/{ids.ti_id}/run"
    await centre.waiting(ids)
    early = await centre.relay.call("PATCH", ids.job, path, run_body())
    assert (early.status, early.code, early.signed) == (409, "wrong_state", True)
    other = add_task()
    await centre.started(other, worker="plant-2")
    foreign = await centre.relay.call("PATCH", other.job, f"task-instances/{other.ti_id}/run", run_body())
    assert (foreign.status, foreign.code) == (409, "not_holder")
    unknown = await centre.relay.call("GET", str(uuid.uuid4()), "variables/x")
    assert (unknown.status, unknown.code) == (410, "job_ended")
    for no_job in ("*", "%3E", "x", ids.job.upper()):
        reply = await centre.relay.call("GET", no_job, "variables/x")
        assert (reply.status, reply.code) == (400, "invalid_request"), no_job
    assert (read_task(other.ti_id) or {})["state"] == "queued"


async def test_foreign_ids_and_paths_change_nothing(centre: Centre) -> None:
    mine, theirs = add_task(), add_task("running")
    await centre.running(mine)
    forbidden = [
        ("PATCH", f"task-instances/{theirs.ti_id}/state", success_body()),
        ("PUT", f"task-instances/{theirs.ti_id}/heartbeat", {"hostname": "", "pid": 1}),
        ("POST", f"xcoms/{DAG_ID}/{RUN_ID}/{theirs.task_id}/key", "v"),
        ("POST", f"xcoms/{DAG_ID}/{RUN_ID}/{mine.task_id}/key?map_index=4", "v"),
        ("DELETE", "connections/some", None),
    ]
    for method, path, body in forbidden:
        reply = await centre.relay.call(method, mine.job, path, body)
        assert (reply.status, reply.code, reply.signed) == (403, "forbidden", True), path
    assert (read_task(theirs.ti_id) or {})["state"] == "running"


async def test_a_repeat_after_a_lost_answer_gets_the_same_answer(centre: Centre) -> None:
    """Airflow gives the task instance a new id at `up_for_retry`, and would answer the repeat with 404."""
    ids = add_task()
    await centre.running(ids)
    path, body = f"task-instances/{ids.ti_id}/state", state_body("up_for_retry")
    first = await centre.relay.call("PATCH", ids.job, path, body, request_id="retry-request-1")
    second = await centre.relay.call("PATCH", ids.job, path, body, request_id="retry-request-1")
    assert (first.status, second.status) == (204, 204)
    assert second.from_airflow
    assert second.signed
    assert read_task(ids.ti_id) is None
    other = await centre.relay.call("PATCH", ids.job, path, body, request_id="another-request")
    assert (other.status, other.code) == (409, "wrong_state")
    assert (await centre.record(ids.job)).accepted_state == "up_for_retry"


async def test_a_repeat_that_overtakes_the_answer_waits_for_it(centre: Centre) -> None:
    ids = add_task()
    await centre.running(ids)
    path, body = f"task-instances/{ids.ti_id}/state", state_body("up_for_retry")
    replies = await asyncio.gather(
        *(centre.relay.call("PATCH", ids.job, path, body, request_id="one-request-id") for _ in range(5))
    )
    assert [reply.status for reply in replies] == [204] * 5


async def test_after_the_final_state_the_sdk_may_still_push_links(centre: Centre) -> None:
    """Operator links are XComs that the SDK writes after the final state; its answer stays the remembered one."""
    ids = add_task()
    await centre.running(ids)
    final = await centre.relay.call(
        "PATCH", ids.job, f"task-instances/{ids.ti_id}/state", success_body(), request_id="final-state-1"
    )
    link = await centre.relay.call("POST", ids.job, f"xcoms/{DAG_ID}/{RUN_ID}/{ids.task_id}/_link_X", "http://x")
    beat = await centre.relay.call(
        "PUT", ids.job, f"task-instances/{ids.ti_id}/heartbeat", {"hostname": "host-1", "pid": 4711}
    )
    assert (final.status, link.status, beat.status) == (204, 201, 204)
    repeat = await centre.relay.call(
        "PATCH", ids.job, f"task-instances/{ids.ti_id}/state", success_body(), request_id="final-state-1"
    )
    assert repeat.status == 204


async def test_a_dispatch_that_airflow_replaced_is_told_so_in_airflows_form(centre: Centre) -> None:
    ids = add_task()
    await centre.started(ids)
    change_task(ids.ti_id, external_executor_id=str(uuid.uuid4()))
    reply = await centre.relay.call("PATCH", ids.job, f"task-instances/{ids.ti_id}/run", run_body())
    # The watch may have been faster: then the job is to stop.
    assert reply.status == 409
    assert reply.from_airflow
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.body["detail"]["reason"] in {"invalid_state", "not_running"}
    assert (read_task(ids.ti_id) or {})["state"] == "queued"
    assert (await centre.record(ids.job)).user_code is None


async def test_a_second_process_of_one_dispatch_does_not_start(centre: Centre) -> None:
    ids = add_task()
    await centre.running(ids)
    again = await centre.relay.call("PATCH", ids.job, f"task-instances/{ids.ti_id}/run", run_body())
    assert again.status == 200
    other = await centre.relay.call("PATCH", ids.job, f"task-instances/{ids.ti_id}/run", run_body(pid=4712))
    assert (other.status, other.code) == (409, "wrong_state")


async def test_a_refused_final_state_takes_the_finishing_mark_back(centre: Centre) -> None:
    ids = add_task()
    await centre.running(ids)
    reply = await centre.relay.call("PATCH", ids.job, f"task-instances/{ids.ti_id}/state", {"state": "nonsense"})
    assert (reply.status, reply.from_airflow) == (422, True)
    record = await centre.record(ids.job)
    assert (record.finishing, record.accepted_state, record.state) == (False, None, JobState.RUNNING)


async def test_malformed_writes_are_refused_before_anything_is_done(centre: Centre) -> None:
    ids = add_task()
    await centre.started(ids)
    path = f"task-instances/{ids.ti_id}/run"
    for body in ({}, {"hostname": "h", "pid": "x"}, [1], {"hostname": "", "pid": 1}):
        reply = await centre.relay.call("PATCH", ids.job, path, body)
        assert (reply.status, reply.code) == (400, "invalid_request"), body
    nameless = await centre.relay.call("PATCH", ids.job, path, run_body(), request_id="a b")
    assert (nameless.status, nameless.code) == (400, "invalid_request")
    assert (await centre.record(ids.job)).user_code is None


async def test_a_job_that_is_to_stop_gets_no_more_reads_and_writes(centre: Centre) -> None:
    """A read must end in 403: after anything else the SDK would continue with a default value."""
    ids = add_task()
    await centre.running(ids)
    change_task(ids.ti_id, state="failed")
    await centre.reaches(ids.job, JobState.STOPPING)
    read = await centre.relay.call("GET", ids.job, "variables/x")
    write = await centre.relay.call("POST", ids.job, f"xcoms/{DAG_ID}/{RUN_ID}/{ids.task_id}/k", "v")
    beat = await centre.relay.call(
        "PUT", ids.job, f"task-instances/{ids.ti_id}/heartbeat", {"hostname": "host-1", "pid": 4711}
    )
    final = await centre.relay.call("PATCH", ids.job, f"task-instances/{ids.ti_id}/state", success_body())
    assert [r.status for r in (read, write, beat, final)] == [403, 409, 409, 409]
    for reply in (read, write, beat, final):
        assert reply.from_airflow
        assert reply.body["detail"]["reason"] == "not_running"
    assert (read_task(ids.ti_id) or {})["state"] == "failed"


REMEMBERED = WriteAnswer(request_id="12345678", status=204, body="")
FORGED = [
    ("GET", "variables/x", 403),
    ("GET", "connections/c", 403),
    ("GET", "xcoms/d/r/t/k", 403),
    ("POST", f"xcoms/{DAG_ID}/{RUN_ID}/TASK/k", 409),
    ("PUT", "variables/x", 409),
    ("DELETE", "variables/x", 409),
    ("PUT", "task-instances/TI/rtif", 409),
    ("POST", f"dag-runs/{DAG_ID}/a-run", 409),
    ("PATCH", "task-instances/TI/run", 409),
    ("PATCH", "task-instances/TI/state", 409),
]


@pytest.mark.parametrize(
    ("state", "method", "path", "status"),
    # A final state that is the task's state already changes nothing, and Airflow says so.
    [("running", *call) for call in FORGED] + [("success", *call) for call in FORGED[:-1]],
)
async def test_a_record_alone_opens_nothing(centre: Centre, state: str, method: str, path: str, status: int) -> None:
    """The relay's NATS user may write a record of a job that Airflow never dispatched, or whose task has ended."""
    ids = add_task(state, **({"external_executor_id": str(uuid.uuid4())} if state == "running" else {}))
    await centre.started(ids)
    body = {"run": run_body(), "state": success_body()}.get(path.rpartition("/")[2], "v")
    path = path.replace("TASK", ids.task_id).replace("TI", ids.ti_id)
    reply = await centre.relay.call(method, ids.job, path, None if method == "GET" else body)
    assert reply.status == status
    assert reply.body["detail"]["reason"] in {"not_running", "invalid_state"}
    assert (read_task(ids.ti_id) or {})["state"] == state


async def test_after_a_retry_the_sdk_may_still_push_links(centre: Centre) -> None:
    """The next try has another id by then."""
    ids = add_task()
    await centre.running(ids)
    await centre.records.change(ids.job, AnswerWrite(WORKER, REMEMBERED, "up_for_retry"))
    retry_task(ids)
    reply = await centre.relay.call("POST", ids.job, f"xcoms/{DAG_ID}/{RUN_ID}/{ids.task_id}/_link_Docs", "https://x")
    assert reply.status == 201, reply


async def test_health_tells_what_the_keeper_sees(centre: Centre) -> None:
    async with centre.relay.session.get(f"http://127.0.0.1:{centre.keeper.port}/healthz") as reply:
        health = await reply.json()
    assert reply.status == 200
    assert health["broker_connected"]
    assert health["view_complete"]


async def test_a_frequent_write_changes_the_record_once(centre: Centre) -> None:
    """Everyone who mirrors the bucket reads each change."""
    ids = add_task(state="running")
    await centre.started(ids)
    bucket = Bucket(centre.broker, RECORDS_BUCKET)
    for method, path, body in (
        ("POST", f"xcoms/{DAG_ID}/{RUN_ID}/{ids.task_id}/key", "value"),
        ("PUT", "variables/frequent", {"value": "v"}),
        ("PUT", f"task-instances/{ids.ti_id}/rtif", {"command": "c"}),
    ):
        before = (await bucket.get(ids.job)).revision
        assert (await centre.relay.call(method, ids.job, path, body)).status == 201
        assert (await bucket.get(ids.job)).revision == before + 1, path
