"""Real processes that stand still while their worker is out of contact, and continue or are killed after contact."""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from edge_schemas.life.events import GiveUp, ReportUserCode
from edge_schemas.life.model import JobState, Verdict
from edge_schemas.life.transition import transition
from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.jobs import Job
from edge_schemas.wire.offline import OfflinePolicy, OnSilence
from edge_worker.agent import worker
from edge_worker.agent.shutdown import ShutdownStage
from edge_worker.jobs import job_state, machine
from edge_worker.jobs.lease import Lease
from edge_worker.logs.upload_loop import LogUploader
from edge_worker.processes.table import find_tree, read_processes
from edge_worker.processes.tree import is_alive
from edge_worker.settings import Settings
from edge_worker.state.state import StateDir
from edge_worker.task_host import job_files
from edge_worker.task_host.lease import now
from support.relay.fake_relay import FakeRelay, SeenCall, execution_answer, html_page, problem_answer
from support.worker.agent import NAME, Agent, eventually, make_identity, running_agent
from support.worker.agent_process import WITH_FAKE_RUNTIME, agent_environment, agent_process
from support.worker.fake_runtime import script_job
from support.worker.processes import STOPPED, user_code_states

FROZEN = b"freezes this task"
CONTINUES = b"the task continues"

# Each tick is another process: a fork that slips through is seen. One that gets a signal that it could act on ticks.
_TICKS = """
import signal
def tick(*_):
    with open({ledger!r}, "a") as ledger: ledger.write("x")
for number in (signal.SIGTERM, signal.SIGHUP): signal.signal(number, tick)
print("up")
while not os.path.exists({go!r}):
    if os.fork() == 0: tick(); os._exit(0)
    os.wait(); time.sleep(0.005)
"""


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


@dataclass
class _Ticking:
    """A job that ticks until its flag is there, then does the rest of its script."""

    job: Job
    ledger: Path
    go: Path

    @classmethod
    def make(cls, folder: Path, rest: str = "print('state', succeed())", **offline: OnSilence) -> "_Ticking":
        number = len(list(folder.glob("ledger-*")))
        ledger, go = folder / f"ledger-{number}", folder / f"go-{number}"
        ledger.touch()
        script = _TICKS.format(ledger=str(ledger), go=str(go)) + rest
        policy = OfflinePolicy(tolerance_s=10, **offline)
        return cls(script_job(script).model_copy(update={"offline": policy}), ledger, go)

    @property
    def ticks(self) -> int:
        return self.ledger.stat().st_size

    async def for_ticks(self, count: int = 5) -> None:
        before = self.ticks
        await eventually(lambda: self.ticks >= before + count)


def _folder(agent: Agent, job: Job) -> Path:
    return agent.state.job_dir(job.id).path


async def _until_frozen(state: StateDir, *jobs: Job) -> None:
    """As the agent says, and as the kernel does."""
    for job in jobs:
        log = state.job_dir(job.id).log
        # Mypy cannot infer a lambda whose parameter has a default.
        await eventually(lambda log=log: FROZEN in log.read_bytes())  # type: ignore[misc]
        # Mypy cannot infer a lambda whose parameter has a default.
        await eventually(lambda job=job: user_code_states(state.job_dir(job.id).path) == STOPPED)  # type: ignore[misc]


async def _run(relay: FakeRelay, agent: Agent, *jobs: Job) -> None:
    """Until all of them run and the agent's poll knows of them."""
    for job in jobs:
        await relay.publish(job)
    for job in jobs:
        await agent.until_log(job.id, b"up")
        event = ReportUserCode(worker=NAME, hostname="h", pid=1, at=datetime.now(UTC))
        relay.records[job.id] = transition(relay.records[job.id], event)
    await relay.until(lambda: len(relay.polls[-1].jobs) == len(jobs))


def _give_up(relay: FakeRelay, job: Job) -> None:
    relay.records[job.id] = transition(relay.records[job.id], GiveUp(reason="no contact", at=datetime.now(UTC)))


def _verdict(relay: FakeRelay, job: Job) -> tuple[Verdict, int | None]:
    outcome = relay.records[job.id].outcome
    assert outcome is not None
    return outcome.verdict, outcome.exit_code


async def test_frozen_tasks_continue_after_an_outage_and_those_given_up_meanwhile_are_killed(
    relay: FakeRelay, settings: Settings, tmp_path: Path, clock: _Clock
) -> None:
    settings = settings.model_copy(update={"slots": 4, "grace_s": 60.0})
    calls = "print('xcom', call('POST', 'xcoms/d/r/t/k', 1)[0]); print('state', succeed())"
    goes_on, given_up = _Ticking.make(tmp_path), _Ticking.make(tmp_path)
    calling = _Ticking.make(tmp_path, calls)
    never_stops = _Ticking.make(tmp_path, on_silence=OnSilence.CONTINUE)
    tasks = (goes_on, given_up, calling, never_stops)
    async with running_agent(relay, settings) as agent:
        await _run(relay, agent, *(task.job for task in tasks))
        await relay.stop()
        calling.go.touch()
        clock.ahead_s += 5
        await _until_frozen(agent.state, goes_on.job, given_up.job, calling.job)
        counted = [task.ticks for task in tasks]
        clock.ahead_s += 3600
        await never_stops.for_ticks(20)
        assert [task.ticks for task in tasks[:3]] == counted[:3]
        _give_up(relay, given_up.job)
        await relay.start()
        await goes_on.for_ticks()
        await eventually(lambda: not is_alive(_folder(agent, given_up.job)))
        assert given_up.ticks == counted[1], "killed, and nothing of it ran"
        for task in (goes_on, never_stops):
            task.go.touch()
        await relay.until(lambda: all(relay.state(task.job.id) is JobState.ENDED for task in tasks))
        await eventually(lambda: not agent.state.job_dirs())
    assert _verdict(relay, given_up.job) == (Verdict.LOST, None)
    exits = {job_id: [finish.exit_code for finish in finishes] for job_id, finishes in relay.finishes.items()}
    assert exits == {task.job.id: [0] for task in (goes_on, calling, never_stops)}
    told = (
        [FROZEN in relay.logs[task.job.id] for task in tasks],
        [CONTINUES in relay.logs[task.job.id] for task in tasks],
    )
    assert told == ([True, True, True, False], [True, False, True, False])
    assert b"no contact with the relay for" in relay.logs[goes_on.job.id]
    assert b"(the job has ended: no contact): sent SIGKILL" in relay.logs[given_up.job.id]
    assert b"xcom 200" in relay.logs[calling.job.id]
    writes = [call.method for call in relay.calls if call.job == calling.job.id]
    assert writes == ["POST", "PATCH"], "held across the freeze, delivered once"


@pytest.mark.parametrize(
    "refusal", [None, ErrorCode.NOT_HOLDER, pytest.param(ErrorCode.FORBIDDEN, marks=pytest.mark.soak)]
)
async def test_a_machine_that_wakes_after_the_tolerance_runs_nothing_until_it_has_asked(
    relay: FakeRelay, settings: Settings, tmp_path: Path, clock: _Clock, refusal: ErrorCode | None
) -> None:
    task = _Ticking.make(tmp_path)
    async with running_agent(relay, settings) as agent:
        await _run(relay, agent, task.job)
        relay.fault = lambda request: html_page() if request.path.endswith("/start") else None
        relay.cut()
        clock.ahead_s += 3600
        await _until_frozen(agent.state, task.job)
        # Polls are answered again, but that tells nothing of the job.
        polls = len(relay.polls)
        await relay.until(lambda: len(relay.polls) > polls and relay.requests[f"/v1/jobs/{task.job.id}/start"] > 2)
        assert user_code_states(_folder(agent, task.job)) == STOPPED
        counted = task.ticks
        if refusal is None:
            relay.fault = lambda _: None
            await task.for_ticks()
            task.go.touch()
        else:
            relay.fault = lambda request: problem_answer(refusal) if request.path.endswith("/start") else None
        await eventually(lambda: not agent.state.job_dirs())
    finishes = [(finish.exit_code, finish.release) for finish in relay.finishes.get(task.job.id, [])]
    if refusal is None:
        assert finishes == [(0, False)]
        return
    # Of a job that is another's nothing is reported; one that may still be ours must not stay open for ever.
    assert finishes == ([] if refusal is ErrorCode.NOT_HOLDER else [(-9, True)])
    assert task.ticks == counted
    assert b"the centre does not let it continue" in relay.logs[task.job.id]


@pytest.mark.parametrize("by", ["the centre", "the worker's owner"])
async def test_a_stop_kills_a_frozen_task_as_it_stands(
    relay: FakeRelay, settings: Settings, tmp_path: Path, clock: _Clock, by: str
) -> None:
    """No grace, in which it would have to run."""
    task = _Ticking.make(tmp_path)
    async with running_agent(relay, settings.model_copy(update={"grace_s": 5.0})) as agent:
        await _run(relay, agent, task.job)
        await relay.stop()
        clock.ahead_s += 5
        await _until_frozen(agent.state, task.job)
        counted = task.ticks
        if by == "the centre":
            await relay.withdraw(task.job.id)
        else:
            agent.shutdown.reach(ShutdownStage.STOP, "the test says so")
            await eventually(lambda: not is_alive(_folder(agent, task.job)))
        await relay.start()
        await relay.until(lambda: relay.state(task.job.id) is JobState.ENDED)
    assert (task.ticks, _verdict(relay, task.job)[1]) == (counted, -9)
    assert b"sent SIGKILL" in relay.logs[task.job.id]
    assert b"SIGTERM" not in relay.logs[task.job.id]


async def test_the_fence_comes_down_in_the_grace_of_a_stop(
    relay: FakeRelay, settings: Settings, tmp_path: Path, clock: _Clock
) -> None:
    task = _Ticking.make(tmp_path)
    async with running_agent(relay, settings.model_copy(update={"grace_s": 60.0})) as agent:
        await _run(relay, agent, task.job)
        await relay.withdraw(task.job.id)
        await agent.until_log(task.job.id, b"SIGTERM")
        await relay.stop()
        clock.ahead_s += 5
        await eventually(lambda: not is_alive(_folder(agent, task.job)))
        await relay.start()
        await relay.until(lambda: relay.state(task.job.id) is JobState.ENDED)
    assert _verdict(relay, task.job) == (Verdict.CANCELLED, -9)


async def test_an_accepted_final_state_thaws(
    relay: FakeRelay, settings: Settings, clock: _Clock, tmp_path: Path
) -> None:
    """Polls get no answer, but this write does: whoever may write it may also end."""
    task, go = _Ticking.make(tmp_path), asyncio.Event()
    task.go.touch()

    async def answer(_: SeenCall) -> web.Response:
        await go.wait()
        return execution_answer(204)

    relay.execution = answer
    async with running_agent(relay, settings) as agent:
        await relay.publish(task.job)
        await relay.until(lambda: bool(relay.calls))
        relay.fault = lambda request: html_page() if request.path.endswith("/poll") else None
        relay.cut()
        clock.ahead_s += 5
        await _until_frozen(agent.state, task.job)
        go.set()
        relay.fault = lambda request: html_page() if request.path.endswith(("/poll", "/start")) else None
        await agent.until_log(task.job.id, b"state 204")
        await relay.until(lambda: task.job.id in relay.finishes)
        relay.fault = lambda _: None
    assert relay.requests[f"/v1/jobs/{task.job.id}/start"] == 1


async def test_the_next_agent_keeps_what_was_frozen_and_asks(
    relay: FakeRelay, settings: Settings, tmp_path: Path
) -> None:
    """The first one is killed; one job was given up meanwhile, and user code of one is awake against all rules."""
    settings = settings.model_copy(update={"slots": 3})
    goes_on, given_up, awake = tasks = [_Ticking.make(tmp_path) for _ in range(3)]
    state = StateDir(settings.state_dir)
    state.prepare()
    state.complete_enrollment(make_identity(relay))
    async with agent_process(WITH_FAKE_RUNTIME, agent_environment(settings), tmp_path / "agent.log"):
        for task in tasks:
            await relay.publish(task.job)
        for task in tasks:
            await task.for_ticks()
            event = ReportUserCode(worker=NAME, hostname="h", pid=1, at=datetime.now(UTC))
            relay.records[task.job.id] = transition(relay.records[task.job.id], event)
        await relay.until(lambda: len(relay.polls[-1].jobs) == 3)
        await relay.stop()
        await _until_frozen(state, *(task.job for task in tasks))
    counted = [task.ticks for task in tasks]
    _wake(state.job_dir(awake.job.id).path)
    await awake.for_ticks()
    async with running_agent(relay, settings):
        await eventually(lambda: user_code_states(state.job_dir(awake.job.id).path) == STOPPED)
        _give_up(relay, given_up.job)
        assert [task.ticks for task in tasks[:2]] == counted[:2]
        await relay.start()
        for task in (goes_on, awake):
            await task.for_ticks()
            task.go.touch()
        await relay.until(lambda: all(relay.state(task.job.id) is JobState.ENDED for task in tasks))
        await eventually(lambda: not state.job_dirs())
    assert given_up.ticks == counted[1]
    assert [_verdict(relay, task.job)[1] for task in tasks] == [0, None, 0]


async def test_a_mark_without_a_freeze_costs_a_question(relay: FakeRelay, settings: Settings, tmp_path: Path) -> None:
    """The agent died before it had stopped anything, or after it had woken everything."""
    task = _Ticking.make(tmp_path)
    async with running_agent(relay, settings) as agent:
        await _run(relay, agent, task.job)
        agent.shutdown.reach(ShutdownStage.LEAVE, "the test says so")
        await agent.until_ended()
    agent.state.job_dir(task.job.id).mark_frozen()
    async with running_agent(relay, settings):
        await relay.until(lambda: relay.requests[f"/v1/jobs/{task.job.id}/start"] == 2)
        await eventually(lambda: agent.state.job_dir(task.job.id).frozen_at() is None)
        await task.for_ticks()
        task.go.touch()
        await relay.until(lambda: relay.state(task.job.id) is JobState.ENDED)


@pytest.mark.parametrize("is_given_up", [False, True])
async def test_what_was_not_launched_by_then_waits_for_the_answer(
    relay: FakeRelay,
    settings: Settings,
    tmp_path: Path,
    clock: _Clock,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_given_up: bool,
) -> None:
    task, asked = _Ticking.make(tmp_path), asyncio.Event()
    task.go.touch()
    async with running_agent(relay, settings) as agent:
        launch: Callable[..., object] = agent.runtime.launch

        async def hang(*_: object) -> None:
            asked.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(agent.runtime, "launch", hang)
        await relay.publish(task.job)
        await asked.wait()
        await relay.stop()
        clock.ahead_s += 5
        await agent.until_log(task.job.id, FROZEN)
        monkeypatch.setattr(agent.runtime, "launch", launch)
        if is_given_up:
            relay.hand_over(task.job.id, "worker-2")
        await relay.start()
        await eventually(lambda: not agent.state.job_dirs())
        assert agent.runtime.launched == ([] if is_given_up else [task.job.id])
        assert relay.state(task.job.id) is (JobState.RUNNING if is_given_up else JobState.ENDED)


@pytest.mark.parametrize("is_wanted", [True, False])
async def test_a_job_that_the_agent_cannot_follow_is_killed_at_its_fence_and_when_it_is_to_stop(
    relay: FakeRelay,
    settings: Settings,
    tmp_path: Path,
    clock: _Clock,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_wanted: bool,
) -> None:
    task = _Ticking.make(tmp_path)

    faults: list[int] = []

    async def fail(*_: object) -> None:
        await task.for_ticks(1)
        faults.append(1)
        raise RuntimeError("a bug")

    monkeypatch.setattr(job_state, "FAULT_PAUSE_S", 0.01)
    monkeypatch.setattr(LogUploader, "follow", fail)
    async with running_agent(relay, settings) as agent:
        await relay.publish(task.job)
        await task.for_ticks()
        await eventually(lambda: faults == [1] * machine.MAX_FAULTS)
        if is_wanted:
            clock.ahead_s += 5
        else:
            await relay.withdraw(task.job.id)
        await eventually(lambda: not is_alive(_folder(agent, task.job)))
        await relay.until(lambda: task.job.id in relay.finishes)


def _wake(folder: Path) -> None:
    taken = job_files.read_claim(folder)
    assert taken is not None
    for process in find_tree(taken, read_processes()):
        os.kill(process.pid, signal.SIGCONT)
