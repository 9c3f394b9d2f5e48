"""The stand-in for the agent's gateway answers tasks as the gate of a keeper with Airflow does."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from contract.execution_backends import ExecutionBackend, fake_execution_api, real_execution_api
from contract.gate_backends import keeper_with_airflow, xcom_path
from support.airflow.keeper import run_body
from support.airflow.real_airflow import RealAirflow

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(180),  # the first real one starts Airflow
]

Serve = Callable[[Path], AbstractAsyncContextManager[ExecutionBackend]]
PROCESS = {"hostname": "host-1", "pid": 4711}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def serve(real_airflow: RealAirflow | None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serve]:
    """Gives the API of a job of the test's own."""
    if real_airflow is None:
        yield fake_execution_api
    else:
        async with keeper_with_airflow(real_airflow, tmp_path_factory.mktemp("keeper")) as running:
            yield partial(real_execution_api, running)


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A folder whose path leaves room for a Unix socket's name."""
    path = Path(tempfile.mkdtemp(prefix="er-"))
    yield path
    shutil.rmtree(path)


@pytest_asyncio.fixture(loop_scope="module")
async def api(serve: Serve, short_dir: Path) -> AsyncIterator[ExecutionBackend]:
    async with serve(short_dir) as backend:
        yield backend


async def run(api: ExecutionBackend) -> Any:
    """User code begins; the task's context."""
    reply = await api.call("PATCH", f"task-instances/{api.ids.ti_id}/run", run_body())
    assert (reply.status, reply.content_type) == (200, "application/json")
    return reply.body


def success_body() -> dict[str, Any]:
    end = datetime.now(UTC).isoformat()
    return {"state": "success", "end_date": end, "task_outlets": [], "outlet_events": [], "rendered_map_index": None}


async def test_the_context_of_a_task(api: ExecutionBackend) -> None:
    context = await run(api)
    assert {"dag_run", "max_tries", "should_retry"} <= context.keys()
    wanted = {"dag_id", "run_id", "logical_date", "run_after", "run_type", "start_date", "conf"}
    assert wanted <= context["dag_run"].keys()
    assert (await run(api)).keys() == context.keys(), "the same process may ask again"


async def test_what_a_task_writes(api: ExecutionBackend) -> None:
    await run(api)
    base = f"task-instances/{api.ids.ti_id}"
    assert (await api.call("PUT", f"{base}/heartbeat", PROCESS)).status == 204
    assert (await api.call("PUT", f"{base}/rtif", {"bash_command": "echo"})).status == 201
    assert (await api.call("POST", xcom_path(api.ids), {"some": "value"})).status == 201
    final = await api.call("PATCH", f"{base}/state", success_body())
    assert (final.status, final.body) == (204, None)


async def test_what_a_task_reads(api: ExecutionBackend) -> None:
    await run(api)
    name = f"n-{api.ids.job}"
    await api.set_variable(name, "v")
    await api.set_connection(name, "db.example")
    variable = await api.call("GET", f"variables/{name}")
    assert (variable.status, variable.content_type) == (200, "application/json")
    assert (variable.body["key"], variable.body["value"]) == (name, "v")
    connection = await api.call("GET", f"connections/{name}")
    assert (connection.status, connection.body["host"]) == (200, "db.example")
    wanted = {"conn_id", "conn_type", "host", "schema", "login", "password", "port", "extra"}
    assert wanted <= connection.body.keys()
    for absent in ("variables/absent", "connections/absent"):
        reply = await api.call("GET", absent)
        assert (reply.status, reply.reason) == (404, "not_found")


async def test_after_its_final_state_a_task_may_still_write_links_and_beat(api: ExecutionBackend) -> None:
    await run(api)
    base = f"task-instances/{api.ids.ti_id}"
    await api.call("PATCH", f"{base}/state", success_body())
    link = xcom_path(api.ids).replace("return_value", "_link_X")
    assert (await api.call("POST", link, "http://x")).status == 201
    assert (await api.call("PUT", f"{base}/heartbeat", PROCESS)).status == 204


async def test_a_task_that_is_to_stop_gets_that_answer_to_all_it_does(api: ExecutionBackend) -> None:
    await run(api)
    base = f"task-instances/{api.ids.ti_id}"
    await api.stop()
    calls: list[tuple[str, str, Any, int]] = [
        ("PUT", f"{base}/heartbeat", PROCESS, 409),
        ("GET", "variables/x", None, 403),
        ("POST", xcom_path(api.ids), "v", 409),
        ("PATCH", f"{base}/state", success_body(), 409),
    ]
    for method, path, body, status in calls:
        reply = await api.call(method, path, body)
        assert (reply.status, reply.reason) == (status, "not_running"), path
