"""What operators order, at real agents: availability and slots, at run time and over restarts."""

import json
import signal
from pathlib import Path

from edge_schemas.life.model import JobState
from edge_schemas.wire.workers import Availability
from edge_worker.settings import Settings
from edge_worker.state.state import StateDir
from support.relay.fake_relay import FakeRelay
from support.worker.agent import eventually, make_identity, running_agent
from support.worker.agent_process import WITH_FAKE_RUNTIME, agent_environment, agent_process
from support.worker.fake_runtime import script_job


def _entries(log: Path, event: str) -> list[dict[str, object]]:
    lines = map(json.loads, log.read_text().splitlines())
    return [line for line in lines if line["event"] == event]


def _enrolled(relay: FakeRelay, settings: Settings) -> StateDir:
    state = StateDir(settings.state_dir)
    state.prepare()
    state.complete_enrollment(make_identity(relay))
    return state


async def _reported(relay: FakeRelay, version: int) -> None:
    """The worker has reported that it applies these settings, and waits."""
    await relay.until(lambda: bool(relay.polls) and relay.polls[-1].settings_version == version and relay.holds_a_poll)


async def test_a_paused_worker_finishes_its_job_and_takes_no_other_until_it_is_resumed(
    relay: FakeRelay, settings: Settings, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    job = script_job(f"print('up')\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)\nsucceed()")
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await agent.until_log(job.id, b"up")
        await _reported(relay, await relay.order(Availability.PAUSED))
        poll = relay.polls[-1]
        assert (poll.free, poll.draining, poll.no_jobs_reason) == (0, False, None), "the centre knows its own order"
        other = script_job("succeed()")
        await relay.publish(other)
        go.touch()
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
        assert relay.state(other.id) is JobState.WAITING
        await relay.order()
        await relay.until(lambda: relay.state(other.id) is JobState.ENDED)


async def test_a_grant_that_crosses_a_pause_is_released(relay: FakeRelay, settings: Settings) -> None:
    relay.oversells = True
    async with running_agent(relay, settings) as agent:
        await relay.until(lambda: relay.holds_a_poll)
        await _reported(relay, await relay.order(Availability.PAUSED))
        relay.settings = None
        job = script_job("succeed()")
        await relay.publish(job)
        await relay.until(lambda: bool(relay.released))
        assert "paused" in relay.released[0].reason
        assert not agent.runtime.launched


async def test_slots_change_while_jobs_run(relay: FakeRelay, settings: Settings, tmp_path: Path) -> None:
    """Jobs above the new number continue, and no other one starts before they are fewer."""
    go = tmp_path / "go"
    jobs = [script_job(f"while not os.path.exists({str(go)!r}): time.sleep(0.02)\nsucceed()") for _ in range(4)]
    async with running_agent(relay, settings.model_copy(update={"slots": 2})):
        for job in jobs[:2]:
            await relay.publish(job)
        await relay.until(lambda: bool(relay.polls) and relay.polls[-1].free == 0 and len(relay.polls[-1].jobs) == 2)
        await _reported(relay, await relay.order(slots=1))
        assert (relay.polls[-1].slots, relay.polls[-1].free) == (1, 0)
        await relay.publish(jobs[2])
        await _reported(relay, await relay.order(slots=3))
        await relay.until(lambda: relay.state(jobs[2].id) is JobState.RUNNING)
        go.touch()
        await _reported(relay, await relay.order())
        assert relay.polls[-1].slots == 2, "the owner's setting counts again"
        await relay.until(lambda: all(relay.state(job.id) is JobState.ENDED for job in jobs[:3]))


async def test_a_drained_worker_exits_once_its_job_has_ended_and_stays_idle_when_it_is_started_again(
    relay: FakeRelay, settings: Settings, tmp_path: Path
) -> None:
    go, log = tmp_path / "go", tmp_path / "agent.log"
    job = script_job(f"print('up')\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)\nsucceed()")
    state = _enrolled(relay, settings)
    async with agent_process(WITH_FAKE_RUNTIME, agent_environment(settings), log) as process:
        await relay.publish(job)
        task_log = state.job_dir(job.id).log
        await eventually(lambda: task_log.exists() and b"up" in task_log.read_bytes())
        await _reported(relay, await relay.order(Availability.DRAINING))
        assert (relay.polls[-1].draining, relay.polls[-1].free) == (True, 0)
        go.touch()
        assert await process.wait() == 0
    assert relay.state(job.id) is JobState.ENDED
    assert b"an operator drains this worker: the press is moved (by ann)" in relay.logs[job.id]
    polls = len(relay.polls)
    async with agent_process(WITH_FAKE_RUNTIME, agent_environment(settings), log) as process:
        await relay.until(lambda: len(relay.polls) > polls + 1 and relay.holds_a_poll)
        assert (relay.polls[-1].free, relay.polls[-1].draining) == (0, False)
        waits = script_job("succeed()")
        await relay.publish(waits)
        # A change of something else does not make it exit.
        await _reported(relay, await relay.order(Availability.DRAINING, slots=4))
        assert process.returncode is None
        said = _entries(log, "worker_not_available")
        assert [one["exits"] for one in said] == [True, False]
        assert said[-1]["resume"] == "edge-relay workers resume worker-1 --reason WHY"
        await relay.order()
        await relay.until(lambda: relay.state(waits.id) is JobState.ENDED)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_an_order_that_was_given_while_the_worker_was_off_does_not_make_it_exit(
    relay: FakeRelay, settings: Settings
) -> None:
    await relay.order(Availability.DRAINING)
    async with running_agent(relay, settings) as agent:
        await _reported(relay, 1)
        assert agent.code is None
        assert relay.polls[-1].free == 0
        await _reported(relay, await relay.order())
        await relay.order(Availability.DRAINING)
        await agent.until_ended()
    assert agent.code == 0


async def test_a_drain_that_is_taken_back_in_time_is_none(relay: FakeRelay, settings: Settings, tmp_path: Path) -> None:
    go = tmp_path / "go"
    job = script_job(f"print('up')\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)\nsucceed()")
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await agent.until_log(job.id, b"up")
        await _reported(relay, await relay.order(Availability.DRAINING))
        await _reported(relay, await relay.order())
        go.touch()
        other = script_job("succeed()")
        await relay.publish(other)
        await relay.until(lambda: relay.state(other.id) is JobState.ENDED)
        assert agent.code is None


async def test_a_stopped_worker_stops_its_jobs_and_exits(relay: FakeRelay, settings: Settings, tmp_path: Path) -> None:
    log, job = tmp_path / "agent.log", script_job("print('up'); time.sleep(60)")
    state = _enrolled(relay, settings)
    async with agent_process(WITH_FAKE_RUNTIME, agent_environment(settings), log) as process:
        await relay.publish(job)
        task_log = state.job_dir(job.id).log
        await eventually(lambda: task_log.exists() and b"up" in task_log.read_bytes())
        await relay.order(Availability.STOPPED)
        assert await process.wait() == 0
    (finish,) = relay.finishes[job.id]
    assert finish.exit_code == -15
    assert b"an operator stops this worker: the press is moved (by ann)" in relay.logs[job.id]
    polls = len(relay.polls)
    async with agent_process(WITH_FAKE_RUNTIME, agent_environment(settings), log) as process:
        await relay.until(lambda: len(relay.polls) > polls + 1 and relay.holds_a_poll)
        assert process.returncode is None


async def test_starts_that_fail_in_a_row_close_the_intake(relay: FakeRelay, settings: Settings) -> None:
    """The reason is what operators read: the worker shows as unhealthy."""
    async with running_agent(relay, settings.model_copy(update={"slots": 1})) as agent:
        agent.runtime.launch_fails = "no space for the interpreter"
        jobs = [script_job("succeed()") for _ in range(3)]
        for job in jobs:
            await relay.publish(job)
        await relay.until(lambda: bool(relay.polls) and "no space" in str(relay.polls[-1].no_jobs_reason))
        assert "3 jobs in a row could not be started" in str(relay.polls[-1].no_jobs_reason)
