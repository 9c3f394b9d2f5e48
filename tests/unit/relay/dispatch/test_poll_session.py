"""What a poll answers at the end of its time: what it computed last, unless something has changed meanwhile."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from edge_relay.dispatch.arrival import agent_seen
from edge_relay.dispatch.directives import Directives
from edge_relay.dispatch.poll_session import PollSession
from edge_relay.dispatch.polls import ParkedPoll, ParkedPolls
from edge_relay.identity.principals import Principal
from edge_relay.lifecycle import Lifecycle
from edge_relay.metrics.replica import Metrics
from edge_schemas.wire.polls import Poll, PollAnswer
from edge_schemas.wire.worker_entry import WorkerEntry
from edge_schemas.wire.worker_report import JobPhase, JobReport, WorkerVersions
from edge_schemas.wire.workers import WorkerSettings
from support.relay.jobs import make_job

VERSIONS = WorkerVersions(agent="", python="", platform="")
JOB = make_job().id
SETTINGS = WorkerSettings(version=1, queues=())


class Scene:
    """A poll of a worker with a job, parked; the test ends its time."""

    def __init__(self) -> None:
        job = JobReport(id=JOB, phase=JobPhase.RUNNING)
        report = Poll(
            protocol=1, incarnation=1, seq=1, slots=1, free=0, jobs=(job,), settings_version=1, versions=VERSIONS
        )
        self.parked = ParkedPoll("w", "hash", report, agent_seen(report, None), 0)
        self.principal = Principal("w", "s", None, SETTINGS, "hash", (), ())
        self.reads_under_way = False
        self.sent: list[PollAnswer | None] = []
        self.end: Callable[[], None] = lambda: None
        entry = WorkerEntry(
            worker="w",
            site="s",
            agent=self.parked.agent,
            relay="r",
            poll_timeout_s=50,
            slots=1,
            free=0,
            draining=False,
            jobs=(),
            versions=VERSIONS,
            health=report.health,
        )
        self.session = PollSession(self._parts(), self.parked, entry, 50)

    def _parts(self) -> Any:
        metrics = Metrics()
        return SimpleNamespace(
            lifecycle=Lifecycle(),
            polls=ParkedPolls(metrics),
            ends=SimpleNamespace(add=self._park, remove=lambda *_: None),
            dispatchers=SimpleNamespace(enlist=lambda *_: None),
            credentials=SimpleNamespace(current=lambda _: self.principal),
            receipt_key=None,
            broker=None,
            records=None,
            mirror=SimpleNamespace(is_current=False),
            reads=SimpleNamespace(waits=self._waits, leave=lambda _: None),
            workers=SimpleNamespace(answered_empty=lambda *_: None),
            metrics=metrics,
        )

    def _park(self, end: Callable[[], None], timeout_s: float) -> float:
        self.end = end
        return asyncio.get_running_loop().time() + timeout_s

    def _waits(self, _: object) -> bool:
        return self.reads_under_way

    async def begin(self) -> "asyncio.Task[None]":
        async def send(answer: PollAnswer | None) -> None:
            self.sent.append(answer)

        answering = asyncio.create_task(self.session.answer(send))
        await asyncio.sleep(0)
        assert not answering.done()
        return answering

    @property
    def answer(self) -> PollAnswer:
        """What was sent, which is not nothing."""
        [sent] = self.sent
        assert sent is not None
        return sent


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def test_nothing_has_changed(scene: Scene) -> None:
    answering = await scene.begin()
    scene.end()
    await asyncio.wait_for(answering, 1)
    assert scene.sent == [None]


async def test_settings_that_change_at_the_same_moment_are_sent(scene: Scene) -> None:
    answering = await scene.begin()
    scene.principal = replace(scene.principal, settings=SETTINGS.model_copy(update={"version": 2}))
    scene.parked.wake.set()
    scene.end()
    await asyncio.wait_for(answering, 1)
    assert scene.answer.settings is not None
    assert scene.answer.settings.version == 2


async def test_a_read_under_way_is_waited_for_and_its_directive_is_sent(scene: Scene) -> None:
    answering = await scene.begin()
    scene.reads_under_way = True
    scene.end()
    await asyncio.sleep(0.01)
    assert not answering.done()
    scene.reads_under_way = False
    scene.session._state.record_read(JOB, None)
    await asyncio.wait_for(answering, 1)
    assert [stop.job for stop in scene.answer.stop] == [JOB]


async def test_a_poll_that_waits_to_repeat_directives_ends_at_its_time_too(scene: Scene) -> None:
    changed = SETTINGS.model_copy(update={"version": 2})
    scene.principal = replace(scene.principal, settings=changed)
    polls, now = scene.session._parts.polls, asyncio.get_running_loop().time()
    polls.record_sent("w", Directives(settings=changed).fingerprint, now)
    answering = await scene.begin()
    scene.session._deadline = now + 0.05  # a timer may be a moment early
    scene.end()
    await asyncio.wait_for(answering, 1)
    assert scene.sent == [None]
