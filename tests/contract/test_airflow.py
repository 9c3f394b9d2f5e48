"""The fake Airflow answers the keeper as the real one does."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from contract.airflow_backends import AirflowBackend, Caller, Task, fake_airflow, real_airflow
from edge_bridge.keeper.dispatch import TaskRow
from edge_bridge.keeper.gate import evidence

pytestmark = pytest.mark.timeout(180)  # the first real one starts Airflow

Serve = Callable[[], AbstractAsyncContextManager[AirflowBackend]]
PROCESS = {"hostname": "host-1", "pid": 4711}
OTHER_PROCESS = {"hostname": "host-1", "pid": 4712}


@pytest.fixture(scope="module", params=["fake", "real"])
def serve(request: pytest.FixtureRequest) -> Serve:
    return fake_airflow if request.param == "fake" else partial(real_airflow, request.getfixturevalue("airflow"))


@pytest_asyncio.fixture
async def caller(serve: Serve) -> AsyncIterator[Caller]:
    async with serve() as backend, aiohttp.ClientSession() as session:
        yield Caller(backend, session)


def run_body(process: dict[str, Any]) -> dict[str, Any]:
    return {"state": "running", "unixname": "root", "start_date": datetime.now(UTC).isoformat(), **process}


def success_body() -> dict[str, Any]:
    end = datetime.now(UTC).isoformat()
    return {"state": "success", "end_date": end, "task_outlets": [], "outlet_events": [], "rendered_map_index": None}


async def row(caller: Caller, task: Task) -> TaskRow:
    """The row of a task, which its id and its name find alike."""
    by_id = await caller.backend.dispatches.one(task.identity.ti_id)
    assert by_id is not None
    assert await caller.backend.dispatches.by_name(task.identity) == by_id
    return by_id


async def running(caller: Caller) -> Task:
    """A task whose user code runs."""
    task = await caller.backend.add_task()
    assert (await caller.call(task, "PATCH", f"{task.path}/run", run_body(PROCESS))).status == 200
    return task


async def test_run_answers_with_the_context_of_the_task(caller: Caller) -> None:
    task = await caller.backend.add_task()
    before = await row(caller, task)
    assert (before.state, before.dispatch) == ("queued", task.dispatch)
    reply = await caller.call(task, "PATCH", f"{task.path}/run", run_body(PROCESS))
    assert (reply.status, reply.content_type) == (200, "application/json")
    assert {"dag_run", "max_tries", "should_retry"} <= reply.body.keys()
    run = reply.body["dag_run"]
    assert (run["dag_id"], run["run_id"]) == (task.identity.dag_id, task.identity.run_id)
    assert {"logical_date", "run_after", "run_type", "start_date", "conf", "consumed_asset_events"} <= run.keys()
    after = await row(caller, task)
    assert (after.state, after.dispatch) == ("running", task.dispatch)


async def test_a_second_run_is_for_the_same_process_only(caller: Caller) -> None:
    task = await running(caller)
    assert (await caller.call(task, "PATCH", f"{task.path}/run", run_body(PROCESS))).status == 200
    other = await caller.call(task, "PATCH", f"{task.path}/run", run_body(OTHER_PROCESS))
    assert (other.status, other.reason) == (409, "invalid_state")


async def test_heartbeats(caller: Caller) -> None:
    task = await running(caller)
    before = await row(caller, task)
    beat = await caller.call(task, "PUT", f"{task.path}/heartbeat", PROCESS)
    assert (beat.status, beat.body) == (204, None)
    after = await row(caller, task)
    assert after.last_heartbeat_at is not None
    assert before.last_heartbeat_at is None or before.last_heartbeat_at < after.last_heartbeat_at
    other = await caller.call(task, "PUT", f"{task.path}/heartbeat", OTHER_PROCESS)
    assert (other.status, other.reason) == (409, "running_elsewhere")


async def test_nothing_of_a_task_is_taken_before_it_runs(caller: Caller) -> None:
    task = await caller.backend.add_task()
    early = await caller.call(task, "PUT", f"{task.path}/heartbeat", PROCESS)
    assert (early.status, early.reason) == (409, "running_elsewhere")


async def test_a_final_state_is_taken_once(caller: Caller) -> None:
    task = await running(caller)
    assert (await caller.call(task, "PATCH", f"{task.path}/state", success_body())).status == 204
    assert (await row(caller, task)).state == "success"
    again = await caller.call(task, "PATCH", f"{task.path}/state", success_body())
    assert (again.status, again.body) == (200, None)
    failed = {"state": "failed", "end_date": datetime.now(UTC).isoformat(), "rendered_map_index": None}
    other = await caller.call(task, "PATCH", f"{task.path}/state", failed)
    assert (other.status, other.reason) == (409, "invalid_state")
    assert (await row(caller, task)).state == "success"
    beat = await caller.call(task, "PUT", f"{task.path}/heartbeat", PROCESS)
    assert (beat.status, beat.reason) == (409, "not_running")
    run = await caller.call(task, "PATCH", f"{task.path}/run", run_body(PROCESS))
    assert (run.status, run.reason) == (409, "invalid_state")


async def test_what_a_task_writes_and_reads(caller: Caller) -> None:
    task = await running(caller)
    names = task.identity
    xcom = f"xcoms/{names.dag_id}/{names.run_id}/{names.task_id}/return_value"
    key = f"key-{names.task_id}"
    await caller.backend.set_variable(key, "v")
    assert (await caller.call(task, "PUT", f"{task.path}/rtif", {"bash_command": "echo"})).status == 201
    assert (await caller.call(task, "POST", xcom, {"some": "value"})).status == 201
    for held, value in ((True, b'{"some":"value"}'), (False, b'{"some":"other"}')):
        query = partial(evidence.has_xcom, names, "return_value", evidence.SentXCom(value))
        assert await caller.backend.dispatches.query(query) is held
    other = partial(evidence.has_xcom, names, "another", evidence.SentXCom(b'{"some":"value"}'))
    assert not await caller.backend.dispatches.query(other)
    read = await caller.call(task, "GET", f"variables/{key}")
    assert (read.status, read.content_type, read.body["key"], read.body["value"]) == (200, "application/json", key, "v")
    absent = await caller.call(task, "GET", "variables/absent")
    assert (absent.status, absent.reason) == (404, "not_found")
