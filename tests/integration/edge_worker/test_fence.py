"""Real processes that have to end because their worker is out of contact."""

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from edge_schemas.jobs import Job
from edge_schemas.offline import OfflinePolicy, OnSilence
from edge_schemas.records import GiveUp, JobState, ReportUserCode, Verdict, transition
from edge_worker import worker
from edge_worker.ladder import Rung
from edge_worker.lease import Lease
from edge_worker.process import is_alive
from edge_worker.runtime_side.lease import now
from edge_worker.settings import Settings
from support.fake_relay import FakeRelay
from support.fake_runtime import script_job
from support.worker import NAME, Agent, eventually, running_agent

_DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
_ON_GO = "print('up')\nwhile not os.path.exists({go!r}): time.sleep(0.02)\n"


@dataclass
class _Clock:
    """The machine's clock, which a test can let jump as a suspend does."""

    ahead_s: float = 0

    def __call__(self) -> float:
        return now() + self.ahead_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(worker, "Lease", partial(Lease, clock=clock))
    return clock


def _job(script: str, on_silence: OnSilence = OnSilence.STOP) -> Job:
    offline = OfflinePolicy(tolerance_s=10, on_silence=on_silence)
    return script_job(script).model_copy(update={"offline": offline})


def _alive(agent: Agent, job: Job) -> bool:
    return is_alive(agent.state.job_dir(job.id).path)


def _report_user_code(relay: FakeRelay, job: Job) -> None:
    event = ReportUserCode(worker=NAME, hostname="h", pid=1, at=datetime.now(UTC))
    relay.records[job.id] = transition(relay.records[job.id], event)


async def test_jobs_out_of_contact_end_before_their_tolerance_does(
    relay: FakeRelay, settings: Settings, tmp_path: Path, clock: _Clock
) -> None:
    """All but the one that may go on; what was under way ends as the SDK understands it."""
    go, go_on = tmp_path / "go", tmp_path / "go-on"
    settings = settings.model_copy(update={"slots": 4, "grace_s": 60.0})
    stubborn = _job(_DEAF + "print('up'); time.sleep(60)")
    reading = _job(_DEAF + _ON_GO.format(go=str(go)) + "print('read', call('GET', 'variables/a')[0]); time.sleep(60)")
    reporting = _job(_DEAF + _ON_GO.format(go=str(go)) + "print('state', succeed()); time.sleep(60)")
    goes_on = _job(_ON_GO.format(go=str(go_on)) + "succeed()", OnSilence.CONTINUE)
    jobs = (stubborn, reading, reporting, goes_on)
    async with running_agent(relay, settings) as agent:
        for job in jobs:
            await relay.publish(job)
        for job in jobs:
            await agent.until_log(job.id, b"up")
            _report_user_code(relay, job)
        await relay.until(lambda: all(len(poll.jobs) == 4 and poll.hold_s < 2 for poll in relay.polls[-1:]))
        await relay.stop()
        go.touch()
        clock.ahead_s += 5
        # Stopped in order, with the long grace of the settings.
        await agent.until_log(stubborn.id, b"SIGTERM")
        await agent.until_log(reading.id, b"read 403")
        still = [_alive(agent, job) for job in jobs]
        clock.ahead_s += 2
        await eventually(lambda: not any(_alive(agent, job) for job in (stubborn, reading, reporting)))
        assert (still, _alive(agent, goes_on)) == ([True] * 4, True)
        # The centre has given up one of them meanwhile.
        given_up = GiveUp(reason="no contact", at=datetime.now(UTC))
        relay.records[stubborn.id] = transition(relay.records[stubborn.id], given_up)
        await relay.start()
        go_on.touch()
        await relay.until(lambda: all(relay.state(job.id) is JobState.ENDED for job in jobs))
        await eventually(lambda: not agent.state.job_dirs())
    given_up_outcome = relay.records[stubborn.id].outcome
    assert given_up_outcome is not None
    assert given_up_outcome.verdict is Verdict.LOST
    exits = {job_id: [finish.exit_code for finish in finishes] for job_id, finishes in relay.finishes.items()}
    assert exits == {reading.id: [-9], reporting.id: [-9], goes_on.id: [0]}
    for job in (stubborn, reading, reporting):
        assert b"no contact with the relay for" in relay.logs[job.id]
    # Earned in time, and tried until the centre says what it is worth; nothing else of a fenced job goes on.
    assert [(call.job, call.method) for call in relay.calls if call.job != goes_on.id] == [(reporting.id, "PATCH")]


async def test_a_machine_that_wakes_after_the_tolerance_kills_at_once(
    relay: FakeRelay, settings: Settings, clock: _Clock
) -> None:
    job = _job(_DEAF + "print('up'); time.sleep(60)")
    async with running_agent(relay, settings.model_copy(update={"grace_s": 60.0})) as agent:
        await relay.publish(job)
        await agent.until_log(job.id, b"up")
        await relay.stop()
        clock.ahead_s += 3600
        async with asyncio.timeout(10):
            await eventually(lambda: not _alive(agent, job))
        await relay.start()
        await relay.until(lambda: job.id in relay.finishes)
    assert relay.finishes[job.id][0].give_back


async def test_the_next_agent_goes_on_counting_where_the_last_one_was(
    relay: FakeRelay, settings: Settings, clock: _Clock
) -> None:
    job = _job("print('up'); time.sleep(60)")
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await agent.until_log(job.id, b"up")
        await relay.until(lambda: bool(relay.polls[-1].jobs))
        await relay.stop()
        agent.ladder.reach(Rung.LEAVE, "the test says so")
        await agent.until_ended()
    assert _alive(agent, job)
    clock.ahead_s += 6
    async with running_agent(relay, settings) as agent:
        await agent.until_log(job.id, b"no contact with the relay for")
        await eventually(lambda: not _alive(agent, job))
        await relay.start()
        await relay.until(lambda: job.id in relay.finishes)
    said = [json.loads(line)["event"] for line in relay.logs[job.id].splitlines()[1:]]
    assert any("leaves without waiting for this task" in line for line in said)
    assert any("offline tolerance 10 s" in line for line in said)
