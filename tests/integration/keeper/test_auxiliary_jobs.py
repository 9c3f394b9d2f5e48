"""Callbacks and connection tests in front of a real Execution API: what is theirs, and nothing else."""

import uuid

import pytest

from edge_schemas.life.events import GiveUp
from edge_schemas.life.model import JobState, Verdict
from edge_schemas.wire.jobs import AuxiliaryKind
from support.airflow.api.writes import PASSWORD, add_connection_test
from support.airflow.keeper import Centre, run_body
from support.airflow.real_airflow import DAG_ID, RUN_ID, add_task

pytestmark = pytest.mark.timeout(180)  # the first one starts Airflow


def state_of(test_id: str) -> tuple[str, str | None]:
    from airflow.models.connection_test import ConnectionTestRequest
    from airflow.utils.session import create_session

    with create_session(scoped=False) as session:
        found = session.get(ConnectionTestRequest, uuid.UUID(test_id))
        assert found is not None
        return str(found.state), found.result_message


async def test_a_connection_test_fetches_its_connection_and_reports(centre: Centre) -> None:
    """With a token for a workload, the only one that these routes take; the password stays out of the record."""
    mine, theirs = add_connection_test(), add_connection_test()
    await centre.auxiliary(AuxiliaryKind.CONNECTION_TEST, mine)
    path = f"connection-tests/{mine}"
    for _ in range(2):  # the first answer may be lost on its way
        fetched = await centre.relay.call("GET", mine, f"{path}/connection", request_id="connection-of-a-test")
        assert (fetched.status, fetched.from_airflow, fetched.body["password"]) == (200, True, PASSWORD)
    assert (await centre.relay.call("GET", mine, f"{path}/connection")).status == 409
    assert PASSWORD not in (await centre.record(mine)).model_dump_json()
    result = {"state": "success", "result_message": "it answers"}
    report = await centre.relay.call("PATCH", mine, path, result, request_id="result-of-a-test")
    repeat = await centre.relay.call("PATCH", mine, path, result, request_id="result-of-a-test")
    assert (report.status, repeat.status) == (204, 204)
    assert state_of(mine) == ("success", "it answers")
    for method, foreign in (
        ("GET", f"connection-tests/{theirs}/connection"),
        ("PATCH", f"connection-tests/{theirs}"),
        ("GET", "connections/other"),
        ("GET", "variables/other"),
    ):
        reply = await centre.relay.call(method, mine, foreign, result if method == "PATCH" else None)
        assert (reply.status, reply.code) == (403, "forbidden"), foreign
    assert state_of(theirs) == ("pending", None)


async def test_a_connection_test_that_was_given_up_reports_nothing(centre: Centre) -> None:
    """Its success could change the connection table."""
    test_id = add_connection_test()
    record = await centre.auxiliary(AuxiliaryKind.CONNECTION_TEST, test_id)
    await centre.relay.call("GET", test_id, f"connection-tests/{test_id}/connection")
    _, ended = await centre.records.change(test_id, GiveUp("no contact", record.created_at, holder=record.holder))
    assert ended.outcome is not None
    assert ended.outcome.verdict is Verdict.LOST
    late = await centre.relay.call("PATCH", test_id, f"connection-tests/{test_id}", {"state": "success"})
    assert (late.status, late.code) == (410, "job_ended")
    assert state_of(test_id)[0] == "running"


async def test_a_callback_reads_and_does_no_more(centre: Centre) -> None:
    writer, task = add_task(), add_task()
    await centre.running(writer)
    stored = await centre.relay.call("PUT", writer.job, "variables/of-callback", {"value": "v"})
    assert stored.status == 201
    callback = (await centre.auxiliary(AuxiliaryKind.CALLBACK)).id
    for path, status in (("variables/of-callback", 200), ("variables/keys", 200), ("connections/absent", 404)):
        reply = await centre.relay.call("GET", callback, path)
        assert (reply.status, reply.from_airflow) == (status, True), (path, reply)
    for method, path in (
        ("PUT", "variables/of-callback"),
        ("POST", f"xcoms/{DAG_ID}/{RUN_ID}/{task.task_id}/key"),
        ("PATCH", f"task-instances/{task.ti_id}/run"),
        ("PATCH", f"task-instances/{callback}/state"),
    ):
        reply = await centre.relay.call(method, callback, path, run_body())
        assert (reply.status, reply.code) == (403, "forbidden"), path
    record = await centre.record(callback)
    assert (record.state, record.user_code) == (JobState.RUNNING, None)
