"""Real signals to real agents."""

import json
import signal
from pathlib import Path

import pytest

from edge_schemas.life.model import JobState
from edge_worker.settings import Settings
from edge_worker.state.state import StateDir
from support.relay.fake_relay import ENROLL_TOKEN, FakeRelay
from support.worker.agent import eventually, make_identity, running_agent
from support.worker.agent_process import EDGE_WORKER, WITH_FAKE_RUNTIME, agent_environment, agent_process
from support.worker.fake_runtime import script_job


def _events(log: Path) -> list[str]:
    return [json.loads(line)["event"] for line in log.read_text().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_worker_leaves_on_a_signal(
    relay: FakeRelay, settings: Settings, tmp_path: Path, number: signal.Signals
) -> None:
    """`edge-worker run` itself: it enrols, polls, drains."""
    log = tmp_path / "agent.log"
    environment = agent_environment(settings, EDGE_WORKER_RELAY_URL=relay.url, EDGE_WORKER_ENROLL_TOKEN=ENROLL_TOKEN)
    async with agent_process((*EDGE_WORKER, "run"), environment, log) as process:
        await relay.until(lambda: relay.holds_a_poll)
        process.send_signal(number)
        assert await process.wait() == 0
    events = _events(log)
    assert events.index("worker_enrolled") < events.index("worker_started") < events.index("worker_stopped")
    assert ENROLL_TOKEN not in log.read_text()


async def test_the_first_signal_lets_jobs_end(relay: FakeRelay, settings: Settings, tmp_path: Path) -> None:
    go, log = tmp_path / "go", tmp_path / "agent.log"
    job = script_job(f"print('up')\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)\nsucceed()")
    state = _enrolled(relay, settings)
    async with agent_process(WITH_FAKE_RUNTIME, agent_environment(settings), log) as process:
        await relay.publish(job)
        task_log = state.job_dir(job.id).log
        await eventually(lambda: task_log.exists() and b"up" in task_log.read_bytes())
        process.send_signal(signal.SIGTERM)
        await relay.until(lambda: relay.polls[-1].draining and relay.polls[-1].free == 0)
        assert relay.state(job.id) is JobState.RUNNING
        go.touch()
        assert await process.wait() == 0
    outcome = relay.records[job.id].outcome
    assert outcome is not None
    assert outcome.exit_code == 0
    assert b"waits for this task to end" in relay.logs[job.id]


async def test_the_second_signal_stops_the_jobs(relay: FakeRelay, settings: Settings, tmp_path: Path) -> None:
    job, log = script_job("print('up'); time.sleep(60)"), tmp_path / "agent.log"
    state = _enrolled(relay, settings)
    async with agent_process(WITH_FAKE_RUNTIME, agent_environment(settings), log) as process:
        await relay.publish(job)
        task_log = state.job_dir(job.id).log
        await eventually(lambda: task_log.exists() and b"up" in task_log.read_bytes())
        for stage in (1, 2):
            process.send_signal(signal.SIGTERM)
            # Mypy cannot infer a lambda whose parameter has a default.
            await eventually(lambda stage=stage: _events(log).count("shutdown_stage_reached") == stage)  # type: ignore[misc]
        assert await process.wait() == 0
    (finish,) = relay.finishes[job.id]
    assert (finish.exit_code, finish.release) == (-15, True)
    assert b"shut down" in relay.logs[job.id]


async def test_the_third_signal_leaves_a_job_that_continues(
    relay: FakeRelay, settings: Settings, tmp_path: Path
) -> None:
    """It ignores SIGTERM, and the grace is long: its supervisor has it end as if nobody had left."""
    go, log = tmp_path / "go", tmp_path / "agent.log"
    script = f"print('up')\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)\nprint('down'); sys.exit(7)"
    job = script_job("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + script)
    settings = settings.model_copy(update={"grace_s": 60.0})
    state = _enrolled(relay, settings)
    async with agent_process(WITH_FAKE_RUNTIME, agent_environment(settings), log) as process:
        await relay.publish(job)
        task_log = state.job_dir(job.id).log
        await eventually(lambda: task_log.exists() and b"up" in task_log.read_bytes())
        for stage in (1, 2, 3):
            process.send_signal(signal.SIGTERM)
            # Mypy cannot infer a lambda whose parameter has a default.
            await eventually(lambda stage=stage: _events(log).count("shutdown_stage_reached") == stage)  # type: ignore[misc]
        assert await process.wait() == 0
    go.touch()
    async with running_agent(relay, settings):
        await relay.until(lambda: job.id in relay.finishes)
        await eventually(lambda: not state.job_dirs())
    assert relay.finishes[job.id][0].exit_code == 7
    assert b"leaves without waiting" in relay.logs[job.id]
    assert relay.logs[job.id].endswith(b"down\n")


async def test_the_third_signal_leaves_at_once(relay: FakeRelay, settings: Settings, tmp_path: Path) -> None:
    """The outcome that cannot be delivered stays on disk."""
    job, log = script_job("print('up'); time.sleep(60)"), tmp_path / "agent.log"
    state = _enrolled(relay, settings)
    async with agent_process(WITH_FAKE_RUNTIME, agent_environment(settings), log) as process:
        await relay.publish(job)
        task_log = state.job_dir(job.id).log
        await eventually(lambda: task_log.exists() and b"up" in task_log.read_bytes())
        await relay.stop()
        for stage in (1, 2):
            process.send_signal(signal.SIGTERM)
            # Mypy cannot infer a lambda whose parameter has a default.
            await eventually(lambda stage=stage: _events(log).count("shutdown_stage_reached") == stage)  # type: ignore[misc]
        await eventually(lambda: state.job_dir(job.id).finish() is not None)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert "jobs_left_behind" in _events(log)


def _enrolled(relay: FakeRelay, settings: Settings) -> StateDir:
    state = StateDir(settings.state_dir)
    state.prepare()
    state.complete_enrollment(make_identity(relay))
    return state
