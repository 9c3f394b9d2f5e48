"""Real tasks through a real Task SDK."""

import asyncio
import json
import signal
import socket
import time
from pathlib import Path

import pytest

from edge_worker.host_client.client import LaunchError
from edge_worker.host_client.job_end import JobResult
from edge_worker.processes.tree import is_alive
from edge_worker.task_host import job_files
from support.airflow.api.execution_api import eventually
from support.airflow.sdk_jobs import ti_of
from support.airflow.task_host import Site

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]


async def test_python_task_prints_returns_and_succeeds(running: Site) -> None:
    job, result = await running.run("hello")
    ti = ti_of(job)
    assert result == JobResult(exit_code=0, final_state="success", error=None)
    assert "hello from the edge" in running.events(job)
    assert running.api.xcoms["xcoms/d/r1/hello/return_value"] == [42]
    assert running.api.states[job.id] == "success"
    assert running.api.runs[job.id]["hostname"] == "press-17.plant"
    assert running.api.paths(job.id) == [
        f"PATCH task-instances/{ti}/run",
        f"PUT task-instances/{ti}/rtif",
        "POST xcoms/d/r1/hello/return_value",
        f"PATCH task-instances/{ti}/state",
    ]
    ids = [call.request_id for call in running.api.calls if call.job == job.id]
    assert len(set(ids)) == len(ids)


async def test_user_code_sees_the_name_of_its_machine(running: Site) -> None:
    """Only Airflow is told of worker and site."""
    job, _ = await running.run("name_machine")
    assert running.api.xcoms["xcoms/d/r1/name_machine/return_value"] == socket.gethostname()
    assert running.api.runs[job.id]["hostname"] == "press-17.plant"


async def test_bash_task(running: Site) -> None:
    job, result = await running.run("bash")
    assert result.final_state == "success"
    assert "from bash 42" in running.events(job)
    assert running.api.xcoms["xcoms/d/r1/bash/return_value"] == "last"


async def test_failing_task_reports_failed_and_its_error(running: Site) -> None:
    job, result = await running.run("fail")
    assert result == JobResult(exit_code=0, final_state="failed", error=None)
    assert running.api.states[job.id] == "failed"
    log = (running.folder(job) / job_files.TASK_LOG).read_text()
    assert "the machine is on fire" in log


async def test_killed_task_with_retries_is_no_success_and_sends_no_state(running: Site) -> None:
    running.api.should_retry = True
    try:
        job, result = await running.run("die")
    finally:
        running.api.should_retry = False
    assert result == JobResult(exit_code=-9, final_state="up_for_retry", error="the process was ended by SIGKILL")
    assert job.id not in running.api.states
    assert "The task was ended by SIGKILL" in running.events(job)


async def test_what_a_task_prints_is_in_its_log_while_it_runs(running: Site, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    running.api.variables["flag"] = str(flag)
    job, folder = await running.launch("tick")
    await eventually(lambda: "tick 1" in running.events(job))
    assert is_alive(folder)
    assert "tick 2" not in running.events(job)
    flag.touch()
    assert (await running.host.wait(folder)).final_state == "success"
    assert "tick 2" in running.events(job)
    assert not is_alive(folder)


async def test_what_a_task_leaves_behind_is_named_in_its_log_and_its_own_end_is_known(running: Site) -> None:
    """The SDK's supervisor waits for the output to close."""
    exits: list[float] = []
    job, folder = await running.launch("leave_behind")
    end = asyncio.create_task(running.host.wait(folder, lambda: exits.append(time.monotonic())))
    await eventually(lambda: bool(exits))
    assert is_alive(folder)
    await eventually(lambda: any("still run: sleep (pid " in event for event in running.events(job)))
    assert is_alive(folder)
    assert (await end).final_state == "success"
    assert len(exits) == 1


async def test_bundle_that_is_not_mapped_fails_with_a_line_in_the_log(running: Site) -> None:
    job, result = await running.run("hello", bundle="elsewhere")
    reason = "DAG bundle 'elsewhere' is neither published nor mapped to a folder on this worker (mapped: dags, gone)"
    assert result == JobResult(exit_code=1, final_state=None, error=reason)
    (line,) = (running.folder(job) / job_files.TASK_LOG).read_text().splitlines()
    assert json.loads(line)["event"] == f"The task could not be run: {reason}"
    assert json.loads(line)["level"] == "error"
    assert running.api.paths(job.id) == []


async def test_bundle_whose_folder_is_gone_fails_with_its_path(running: Site) -> None:
    _, result = await running.run("hello", bundle="gone")
    assert result.error == "DAG bundle 'gone' is mapped to /nowhere/at/all, which is not a folder"


async def test_dag_that_cannot_be_imported_says_why_and_is_tried_again_later(running: Site) -> None:
    """As Airflow has it: rescheduled, and after `[workers] missing_dag_retries` times failed."""
    job, result = await running.run("any", dag_id="broken")
    assert result.final_state == running.api.states[job.id] == "up_for_reschedule"
    assert "Error loading DAG from broken.py: No module named 'no_such_driver'" in running.events(job)


async def test_task_that_airflow_refuses_fails_with_the_reason(running: Site) -> None:
    refusal = {"reason": "invalid_state", "message": "no", "previous_state": "success"}
    running.api.refuse_run = (409, {"detail": refusal})
    try:
        job, result = await running.run("hello")
    finally:
        running.api.refuse_run = None
    assert result.exit_code == 1
    assert result.error is not None
    assert "invalid_state" in result.error
    assert any("invalid_state" in event for event in running.events(job))
    assert "hello from the edge" not in running.events(job)


@pytest.mark.parametrize("end", ["/run", "/return_value", "/state"])
async def test_the_sdk_does_not_repeat_a_call_that_failed_for_good(running: Site, end: str) -> None:
    """The gateway has tried it often enough, under one request id."""
    running.api.failures[end] = (500, {"detail": {"reason": "Database error", "message": "look for ID 4711"}})
    try:
        job, result = await running.run("hello")
    finally:
        running.api.failures.clear()
    calls = [call for call in running.api.calls if call.job == job.id and call.path.endswith(end)]
    # A supervisor sends a final state that failed once more, when the task's process is gone.
    assert len(calls) == (2 if end == "/state" else 1)
    if end != "/state":
        # The reason of the last call is in the line of the gateway, which this test does without.
        assert result.final_state != "success"
        assert "look for ID 4711" in (running.folder(job) / job_files.TASK_LOG).read_text()


async def test_dag_that_names_the_centres_executor_by_alias_loads(running: Site) -> None:
    centre = "LocalExecutor,relay:edge_bridge.executor.RelayExecutor"
    job, result = await running.run("named_executor", dag_id="aliased", executor=centre)
    assert result.final_state == "success", running.events(job)


async def test_stop_by_heartbeat_answer_ends_the_task(running: Site) -> None:
    job, folder = await running.launch("polite")
    await eventually(lambda: "ready" in running.events(job))
    running.api.stop.add(job.id)
    result = await running.host.wait(folder)
    assert result.final_state == "SERVER_TERMINATED"
    assert "leaving" in running.events(job)
    assert job.id not in running.api.states


async def test_user_code_has_nothing_of_the_agents(running: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_SECRET_OF_THE_AGENT", "swordfish")
    job, result = await running.run("show_environment")
    assert result.final_state == "success"
    log = (running.folder(job) / job_files.TASK_LOG).read_text()
    (environment,) = (event for event in running.events(job) if event.startswith("environment"))
    assert "RELAY_SECRET" not in environment
    assert "swordfish" not in log
    assert "EDGE_RELAY_JOB" in environment
    (path,) = (event for event in running.events(job) if event.startswith("path"))
    assert "src/edge_worker'" not in path
    targets = [event.split(" ", 1)[1] for event in running.events(job) if event.startswith("descriptor")]
    folder = str(running.folder(job))
    assert [target for target in targets if not target.startswith(("socket:", folder, "/proc/"))] == []


async def test_secret_that_a_task_reads_stays_out_of_its_folder(running: Site) -> None:
    running.api.variables["api_password"] = "hunter-two-and-three"
    job, result = await running.run("read_secret")
    assert result.final_state == "success"
    for path in running.folder(job).iterdir():
        assert b"hunter-two" not in path.read_bytes(), path


async def test_a_segmentation_fault_ends_the_task_and_shows_where_it_was(running: Site) -> None:
    """Airflow's import of the DAG leaves a handler behind, with which the fault would repeat for ever."""
    job, result = await running.run("crash_in_c")
    assert result.exit_code == -signal.SIGSEGV
    events = running.events(job)
    assert "Fatal Python error: Segmentation fault" in events
    assert any("in crash_in_c" in event for event in events)


async def test_several_jobs_at_once(running: Site) -> None:
    done = await asyncio.gather(*(running.run("hello") for _ in range(6)))
    assert [result.final_state for _, result in done] == ["success"] * 6
    assert len({running.api.runs[job.id]["pid"] for job, _ in done}) == 6


async def test_job_is_started_once_in_its_folder(running: Site) -> None:
    job, _ = await running.run("hello")
    with pytest.raises(LaunchError, match="already started"):
        await running.host.launch(job, running.folder(job))
    assert running.api.paths(job.id).count(f"PATCH task-instances/{ti_of(job)}/run") == 1


async def test_read_held_while_the_gateway_dies_gets_the_real_value(running: Site) -> None:
    api = running.api
    api.variables["v1"] = "REAL"
    held = api.held["variables/v1"] = asyncio.Event()
    job, folder = await running.launch("read_with_default")
    await eventually(lambda: "GET variables/v1" in api.paths(job.id))
    await api.die()
    await eventually(lambda: _age_s(folder) >= 3)
    held.set()
    await api.start()
    assert (await running.host.wait(folder)).final_state == "success"
    assert "value: REAL" in running.events(job)
    ids = [call.request_id for call in api.calls if call.job == job.id and call.path == "variables/v1"]
    assert len(ids) >= 2
    assert len(set(ids)) == 1


def _age_s(folder: Path) -> float:
    """Since the supervisor started; after some seconds it has found the gateway away several times."""
    return time.time() - (folder / job_files.PID).stat().st_mtime


async def test_final_state_held_while_the_gateway_dies_is_delivered_under_one_request_id(running: Site) -> None:
    api = running.api
    held = api.held["/state"] = asyncio.Event()
    job, folder = await running.launch("hello")
    path = f"task-instances/{ti_of(job)}/state"
    await eventually(lambda: f"PATCH {path}" in api.paths(job.id))
    await api.die()
    held.set()
    await api.start()
    assert (await running.host.wait(folder)).final_state == "success"
    assert api.states[job.id] == "success"
    assert len({call.request_id for call in api.calls if call.path == path}) == 1


async def test_output_is_read_while_a_call_is_held(running: Site) -> None:
    api = running.api
    api.variables["v1"] = "REAL"
    held = api.held["variables/v1"] = asyncio.Event()
    job, folder = await running.launch("print_while_reading")
    # All of it arrives although the read has not been answered; the pipes hold some 280 lines.
    await eventually(lambda: "line 4999" in running.events(job))
    assert "value: REAL" not in running.events(job)
    await api.die()
    held.set()
    await api.start()
    assert (await running.host.wait(folder)).final_state == "success"
    assert "value: REAL" in running.events(job)
    (stalled,) = (event for event in running.events(job) if event.startswith("stalled"))
    assert float(stalled.split()[1]) < 1


async def test_versions(running: Site) -> None:
    await running.run("hello")
    assert (await running.host.versions() or "").startswith("3.")
