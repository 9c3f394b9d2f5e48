"""What Airflow wants run besides tasks, by the SDK's own supervisors."""

import asyncio
from pathlib import Path

import pytest

from edge_schemas.wire.offline import OfflinePolicy
from edge_worker.host_client.job_end import JobResult
from edge_worker.processes.tree import is_alive, stop_tree
from support.airflow.api.execution_api import eventually
from support.airflow.sdk_jobs import callback_job, connection_test_job
from support.airflow.task_host import Site

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

CONTEXT = {"dag_run": {"run_id": "r1"}}


async def test_callback_of_the_bundle_runs_and_reads_what_it_needs(running: Site) -> None:
    """Its read is held while the gateway dies, as a task's would be."""
    running.api.variables["v1"] = "REAL"
    held = running.api.held["variables/v1"] = asyncio.Event()
    job, folder = await running.launch(callback_job("auxiliary_jobs.note", {"text": "hello", "context": CONTEXT}))
    await eventually(lambda: "GET variables/v1" in running.api.paths(job.id))
    await running.api.die()
    held.set()
    await running.api.start()
    assert await running.host.wait(folder) == JobResult(exit_code=0, final_state=None, error=None)
    assert any(event.startswith("noted hello r1 REAL") for event in running.events(job))
    assert {call.path for call in running.api.calls if call.job == job.id} == {"variables/v1"}


async def test_failing_callback_ends_with_its_status_and_its_error_in_the_log(running: Site) -> None:
    job, result = await running.run(callback_job("auxiliary_jobs.fail", {"text": "hello"}))
    assert result == JobResult(exit_code=1, final_state=None, error=None)
    assert any("cannot note hello" in event for event in _log(running, job.id))


async def test_killed_callback_says_so(running: Site) -> None:
    job, result = await running.run(callback_job("auxiliary_jobs.die", {}))
    assert result == JobResult(exit_code=-9, final_state=None, error="the process was ended by SIGKILL")
    assert "The callback was ended by SIGKILL" in running.events(job)


async def test_callback_that_is_nowhere_fails_with_its_name(running: Site) -> None:
    job, result = await running.run(callback_job("no_such_module.note", {}))
    assert result.exit_code == 1
    assert any("no_such_module" in line for line in _log(running, job.id))


async def test_callback_is_killed_when_its_agent_is_gone_for_too_long(running: Site) -> None:
    running.api.variables["v1"] = "REAL"
    running.api.held["variables/v1"] = asyncio.Event()
    policy = OfflinePolicy.model_construct(tolerance_s=4)
    job = callback_job("auxiliary_jobs.note", {"text": "hello", "context": CONTEXT}, offline=policy)
    _, folder = await running.launch(job)
    await eventually(lambda: "GET variables/v1" in running.api.paths(job.id))
    await running.api.die()
    try:
        result = await running.host.wait(folder)
    finally:
        running.api.held.clear()
        await running.api.start()
    assert result.exit_code != 0
    assert any("may be started elsewhere" in line for line in _log(running, job.id))
    assert "noted" not in "".join(_log(running, job.id))


async def test_connection_test_reports_what_the_hook_says(running: Site, tmp_path: Path) -> None:
    """Success and failure of the test are both results; the auxiliary job itself has succeeded."""
    reported = {}
    for path, state in ((tmp_path, "success"), (tmp_path / "missing", "failed")):
        running.api.connections["tested"] = {"conn_type": "fs", "extra": f'{{"path": "{path}"}}'}
        job, result = await running.run(connection_test_job("tested"))
        assert result == JobResult(exit_code=0, final_state=None, error=None)
        assert job.auxiliary is not None
        reported = running.api.connection_tests[job.auxiliary.id]
        assert reported["state"] == state, reported
    assert "missing" in reported["result_message"]


async def test_connection_test_can_be_stopped(running: Site) -> None:
    running.api.connections["tested"] = {"conn_type": "fs"}
    held = running.api.held["/connection"] = asyncio.Event()
    job, folder = await running.launch(connection_test_job("tested"))
    await eventually(lambda: any(call.job == job.id for call in running.api.calls))
    await stop_tree(folder, grace_s=5, on_step=lambda _: None)
    held.set()
    del running.api.held["/connection"]
    assert not is_alive(folder)
    assert (await running.host.wait(folder)).exit_code == -15


def _log(site: Site, job_id: str) -> list[str]:
    return (site.root / "jobs" / job_id / "task.log").read_text().splitlines()
