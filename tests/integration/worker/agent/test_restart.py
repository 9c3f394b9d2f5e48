"""The agent goes down while jobs run; nothing is lost and nothing runs twice."""

import asyncio
import signal
from pathlib import Path

import pytest
from aiohttp import web

from edge_schemas.life.model import JobState
from edge_schemas.wire.worker_report import JobPhase
from edge_worker.agent import draining
from edge_worker.jobs import job_state
from edge_worker.settings import Settings
from edge_worker.state.state import StateDir
from support.relay.fake_relay import FakeRelay, SeenCall, execution_answer, html_page
from support.worker.agent import eventually, make_identity, running_agent
from support.worker.agent_process import WITH_FAKE_RUNTIME, agent_environment, agent_process
from support.worker.fake_runtime import script_job

_WAITS = "print('up')\nwhile not os.path.exists({go!r}): time.sleep(0.02)\nprint('down'); sys.exit(4)"


def _enrolled(relay: FakeRelay, settings: Settings) -> StateDir:
    state = StateDir(settings.state_dir)
    state.prepare()
    state.complete_enrollment(make_identity(relay))
    return state


async def _exit_code(relay: FakeRelay, job: str) -> int | None:
    await relay.until(lambda: relay.state(job) is JobState.ENDED)
    outcome = relay.records[job].outcome
    assert outcome is not None
    return outcome.exit_code


@pytest.mark.parametrize("ends", ["after", "while"])
async def test_a_job_continues_when_its_agent_is_killed(
    relay: FakeRelay, settings: Settings, tmp_path: Path, ends: str
) -> None:
    """It is taken up by the next agent, whether it still runs then or has ended meanwhile."""
    state, go = _enrolled(relay, settings), tmp_path / "go"
    job = script_job(_WAITS.format(go=str(go)))
    async with agent_process(WITH_FAKE_RUNTIME, agent_environment(settings), tmp_path / "agent.log") as process:
        await relay.publish(job)
        log = state.job_dir(job.id).log
        await eventually(lambda: log.exists() and b"up" in log.read_bytes())
        process.send_signal(signal.SIGKILL)
        await process.wait()
    if ends == "while":
        go.touch()
        result = state.job_dir(job.id).path / "result.json"
        await eventually(result.exists)
    async with running_agent(relay, settings) as agent:
        await relay.until(lambda: relay.polls[-1].incarnation > relay.polls[0].incarnation)
        go.touch()
        assert await _exit_code(relay, job.id) == 4
        assert agent.runtime.launched == []
    assert relay.logs[job.id] == b"up\ndown\n"
    assert relay.requests[f"/v1/jobs/{job.id}/start"] == 1


async def test_a_running_job_is_reported_by_the_next_agent(
    relay: FakeRelay, settings: Settings, tmp_path: Path
) -> None:
    state, go = _enrolled(relay, settings), tmp_path / "go"
    job = script_job(_WAITS.format(go=str(go)))
    async with agent_process(WITH_FAKE_RUNTIME, agent_environment(settings), tmp_path / "agent.log"):
        await relay.publish(job)
        log = state.job_dir(job.id).log
        await eventually(lambda: log.exists() and b"up" in log.read_bytes())
    async with running_agent(relay, settings):
        await relay.until(lambda: relay.polls[-1].incarnation > relay.polls[0].incarnation)
        first = next(poll for poll in relay.polls if poll.incarnation == relay.polls[-1].incarnation)
        assert [(report.id, report.phase) for report in first.jobs] == [(job.id, JobPhase.RUNNING)]
        assert first.free == 1
        go.touch()
        await _exit_code(relay, job.id)


async def test_an_undelivered_outcome_is_delivered_by_the_next_agent(
    relay: FakeRelay, settings: Settings, tmp_path: Path
) -> None:
    state = _enrolled(relay, settings)
    job = script_job("print('short'); sys.exit(5)")
    relay.fault = lambda request: html_page() if request.path.endswith(("/finish", "/log")) else None
    async with agent_process(WITH_FAKE_RUNTIME, agent_environment(settings), tmp_path / "agent.log"):
        await relay.publish(job)
        await eventually(lambda: state.job_dir(job.id).finish() is not None)
    relay.fault = lambda _: None
    async with running_agent(relay, settings) as agent:
        assert await _exit_code(relay, job.id) == 5
        assert agent.runtime.launched == []
    assert relay.logs[job.id] == b"short\n"


async def test_a_drain_with_a_limit_ends_without_a_link_and_the_next_agent_delivers(
    relay: FakeRelay, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One job is stopped; one is reporting its end, which nobody interrupts, and continues."""
    monkeypatch.setattr(draining, "DELIVERY_GRACE_S", 1.0)
    stopped = script_job("print('up'); time.sleep(60)")
    reporting = script_job(
        "print('up')\n"
        "while True:\n"
        "  try: status = succeed(); break\n"
        "  except (OSError, http.client.HTTPException): time.sleep(0.05)\n"
        "print('said', status)"
    )
    limited = settings.model_copy(update={"drain_timeout_s": 0.3})
    relay.fault = lambda request: html_page() if "/execution/" in request.path else None
    async with running_agent(relay, limited) as agent:
        for job in (stopped, reporting):
            await relay.publish(job)
            await agent.until_log(job.id, b"up")
        await relay.until(lambda: any("/execution/" in path for path in relay.requests))
        await relay.stop()
        agent.drain()
        async with asyncio.timeout(10):
            await agent.until_ended()
        assert {job_dir.path.name for job_dir in agent.state.job_dirs()} == {stopped.id, reporting.id}
    relay.fault = lambda _: None
    await relay.start()
    async with running_agent(relay, settings):
        assert await _exit_code(relay, stopped.id) == -15
        assert await _exit_code(relay, reporting.id) == 0
    assert b"said 204" in relay.logs[reporting.id]


async def test_a_drain_with_a_limit_ends_though_a_log_cannot_be_delivered(
    relay: FakeRelay, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "DELIVERY_GRACE_S", 0.3)
    monkeypatch.setattr(job_state, "LOG_FIRST_S", 0.1)
    job = script_job("print('kept')")
    limited = settings.model_copy(update={"drain_timeout_s": 0.3})
    relay.fault = lambda request: html_page(413) if request.path.endswith("/log") else None
    async with running_agent(relay, limited) as agent:
        await relay.publish(job)
        assert await _exit_code(relay, job.id) == 0
        agent.drain()
        async with asyncio.timeout(10):
            await agent.until_ended()
        assert job.id not in relay.logs
    relay.fault = lambda _: None
    async with running_agent(relay, settings) as agent:
        await relay.until(lambda: job.id in relay.logs)
        await eventually(lambda: not agent.state.job_dirs())
    assert relay.logs[job.id] == b"kept\n"


async def test_a_start_whose_answer_was_never_seen_is_asked_for_again(
    relay: FakeRelay, settings: Settings, tmp_path: Path
) -> None:
    state = _enrolled(relay, settings)
    job = script_job("print('ran')")
    relay.lose_answer["start"] = 1_000
    async with agent_process(WITH_FAKE_RUNTIME, agent_environment(settings), tmp_path / "agent.log"):
        await relay.publish(job)
        await relay.until(lambda: relay.state(job.id) is JobState.RUNNING)
        assert not state.job_dir(job.id).was_started
    relay.lose_answer.clear()
    async with running_agent(relay, settings) as agent:
        assert await _exit_code(relay, job.id) == 0
        assert agent.runtime.launched == [job.id]


async def test_a_call_that_was_held_by_a_killed_agent_ends_in_a_real_answer(
    relay: FakeRelay, settings: Settings, tmp_path: Path
) -> None:
    """The task repeats it over the same socket path; here the snippet does what the task host's transport does."""
    _enrolled(relay, settings)
    job = script_job(
        "while True:\n"
        "  try: answer = call('GET', 'variables/a'); break\n"
        "  except (OSError, http.client.HTTPException): time.sleep(0.05)\n"
        "print(answer)"
    )

    async def answer(_: SeenCall) -> web.Response:
        return execution_answer(200, {"value": "real"})

    relay.execution = answer
    relay.fault = lambda request: html_page() if "/execution/" in request.path else None
    async with agent_process(WITH_FAKE_RUNTIME, agent_environment(settings), tmp_path / "agent.log"):
        await relay.publish(job)
        await relay.until(lambda: any("/execution/" in path for path in relay.requests))
    relay.fault = lambda _: None
    async with running_agent(relay, settings):
        assert await _exit_code(relay, job.id) == 0
    assert b"real" in relay.logs[job.id]
    assert {call.request_id for call in relay.calls} == {"call-0001"}
