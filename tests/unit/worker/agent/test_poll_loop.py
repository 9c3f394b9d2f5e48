"""When the poll loop sends its next poll, and what it says in it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.jobs import Job, JobKind
from edge_schemas.wire.offline import OfflinePolicy
from edge_schemas.wire.polls import Grant, Poll, PollAnswer
from edge_schemas.wire.worker_entry import AgentSeen, CredentialConflict
from edge_schemas.wire.worker_report import WorkerHealth
from edge_worker.agent import poll_loop
from edge_worker.agent.poll_answers import PollSink
from edge_worker.agent.poll_loop import PollLoop, Report
from edge_worker.agent.poll_timeout import PollTimeoutTuner
from edge_worker.jobs.lease import Fence, Lease
from edge_worker.jobs.registry import JobRegistry
from edge_worker.machine.health import worker_versions
from edge_worker.relay.call_result import NoAnswer, Refused
from edge_worker.relay.client import RelayClient
from edge_worker.relay.link import Link
from edge_worker.relay.poll_answer import ReadAnswer
from edge_worker.state.job_dir import JobDir
from support.relay.jobs import make_job
from support.worker.local_jobs import local_job

_TURNS = 50
"""More turns of the event loop than anything here takes that is not waiting for someone."""


class _Client:
    """Parks every poll until the test ends it."""

    def __init__(self) -> None:
        self.polls: dict[int, Poll] = {}
        self._ends: dict[int, asyncio.Future[PollAnswer | None]] = {}

    async def poll(self, poll: Poll) -> ReadAnswer | None:
        self.polls[poll.seq] = poll
        self._ends[poll.seq] = asyncio.get_running_loop().create_future()
        answer = await self._ends[poll.seq]
        return None if answer is None else ReadAnswer(answer)

    def answer(self, seq: int, answer: PollAnswer | None = None) -> None:
        self._ends[seq].set_result(answer)

    def fail(self, seq: int, code: ErrorCode, **extra: Any) -> None:
        self._ends[seq].set_exception(Refused(EdgeError(code, **extra).problem()))

    def break_off(self, seq: int) -> None:
        self._ends[seq].set_exception(NoAnswer("broken"))


class _Desk:
    """Takes what is granted into the table."""

    def __init__(self, table: JobRegistry) -> None:
        self._table = table

    def accept(self, grant: Grant) -> None:
        self._table.add(local_job(grant.job, JobDir(Path("nowhere"))))

    def answered(self) -> None:
        """Nothing follows from it here."""


class _Pauses:
    """Pauses of the loop end at once and are counted; those of the test itself are turns."""

    def __init__(self) -> None:
        self.taken: list[float] = []
        self._sleep = asyncio.sleep

    async def sleep(self, delay: float) -> None:
        if delay:
            self.taken.append(delay)
        await self._sleep(0)


class _Setup:
    def __init__(self, client: _Client, table: JobRegistry, link: Link, lease: Lease, pauses: _Pauses) -> None:
        self.client, self.table, self.link, self.lease, self.pauses = client, table, link, lease, pauses

    @property
    def seqs(self) -> list[int]:
        return list(self.client.polls)

    @property
    def last(self) -> Poll:
        return self.client.polls[self.seqs[-1]]


@asynccontextmanager
async def _polling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[_Setup]:
    pauses = _Pauses()
    monkeypatch.setattr(asyncio, "sleep", pauses.sleep)
    client, table, link = _Client(), JobRegistry(3), Link()
    ticks = itertools.count(100)
    lease = Lease(tmp_path / "lease", clock=lambda: next(ticks))
    report = Report(7, "instance", "host", (), lambda: (JobKind.TASK,), 0, lambda: worker_versions(None), WorkerHealth)
    sink = cast("PollSink", _Desk(table))
    loop = PollLoop(
        cast("RelayClient", client),
        table,
        link,
        sink,
        report,
        PollTimeoutTuner(50),
        Fence(table, lease),
        jitter=lambda: 0.0,
    )
    running = asyncio.create_task(loop.run())
    await _settle()
    try:
        yield _Setup(client, table, link, lease, pauses)
    finally:
        running.cancel()
        await asyncio.wait({running})


async def _settle() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a real timer of the loop ends it
            await asyncio.sleep(0)


async def test_the_end_of_a_superseded_poll_calls_for_no_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _polling(tmp_path, monkeypatch) as loop:
        loop.client.answer(1)
        await _settle()
        loop.table.changed()
        await _settle()
        assert loop.seqs == [1, 2, 3]
        loop.client.answer(2)
        await _settle()
        assert loop.seqs == [1, 2, 3]
        loop.client.answer(3)
        await _settle()
        assert loop.seqs == [1, 2, 3, 4]


async def test_a_poll_is_held_only_once_the_link_is_proven_and_no_more_once_it_is_suspected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _polling(tmp_path, monkeypatch) as loop:
        assert loop.last.poll_timeout_s == 0
        loop.client.answer(1)
        await _settle()
        assert loop.last.poll_timeout_s == 50
        loop.link.suspect("a call timed out")
        await _settle()
        assert (loop.seqs, loop.last.poll_timeout_s) == ([1, 2, 3], 0)
        loop.client.answer(3)
        await _settle()
        assert (loop.seqs, loop.last.poll_timeout_s) == ([1, 2, 3, 4], 50)


async def test_the_poll_after_a_broken_one_is_a_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way may have become a black hole, in which a held poll would be missed only at its own end."""
    async with _polling(tmp_path, monkeypatch) as loop:
        loop.client.answer(1)
        await _settle()
        loop.client.break_off(2)
        await _settle()
        assert (loop.seqs, loop.last.poll_timeout_s, loop.link.is_up) == ([1, 2, 3], 0, True)
        loop.client.answer(3)
        await _settle()
        assert (loop.seqs, loop.last.poll_timeout_s) == ([1, 2, 3, 4], 50)


async def test_a_probe_that_hangs_keeps_no_other_one_from_trying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What hangs in a black hole hangs on when the link is back; only a new connection gets through."""
    monkeypatch.setattr(poll_loop, "IDLE_CAP_S", 0.02)
    async with _polling(tmp_path, monkeypatch) as loop:
        await _until(lambda: len(loop.seqs) >= 3)
        was_up = loop.link.is_up
        newest = loop.seqs[-1]
        # On a very slow link it is an older one that comes through: then nothing has to be probed any more.
        loop.client.answer(newest - 1)
        await _settle()
        assert (was_up, loop.link.is_up, loop.last.poll_timeout_s) == (False, True, 50)


async def test_a_worker_with_jobs_pauses_less_while_the_relay_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _polling(tmp_path, monkeypatch) as loop:
        for seq in range(1, 9):
            loop.client.break_off(seq)
            await _settle()
        idle = loop.pauses.taken[-1]
        loop.table.add(local_job(make_job(), JobDir(tmp_path)))
        loop.client.break_off(9)
        await _settle()
        assert idle >= poll_loop.IDLE_CAP_S / 2 > poll_loop.BUSY_CAP_S >= loop.pauses.taken[-1]


async def test_a_job_with_a_short_tolerance_shortens_the_hold_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Brought by a poll that was superseded: the newer one is parked for too long then."""
    job = make_job().model_copy(update={"offline": OfflinePolicy(tolerance_s=10)})
    async with _polling(tmp_path, monkeypatch) as loop:
        loop.client.answer(1)
        await _settle()
        loop.table.changed()
        await _settle()
        loop.client.answer(2, _granting(job))
        await _settle()
        assert loop.seqs == [1, 2, 3, 4]
        assert loop.last.poll_timeout_s == job.offline.longest_poll_timeout_s < 2
        assert [(report.id, report.offline) for report in loop.last.jobs] == [(job.id, job.offline)]


async def test_a_grant_in_the_answer_to_an_older_poll_is_reported_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newer poll does not name the job: the relay could not have it stopped before that poll ends."""
    job = make_job()
    async with _polling(tmp_path, monkeypatch) as loop:
        loop.client.answer(1)
        await _settle()
        loop.table.changed()
        await _settle()
        loop.client.answer(2, _granting(job))
        await _settle()
        assert loop.seqs == [1, 2, 3, 4]
        assert [report.id for report in loop.last.jobs] == [job.id]


def _granting(job: Job) -> PollAnswer:
    return PollAnswer(grants=(Grant(job=job, receipt="r", expires_at=datetime.now(UTC)),))


async def test_an_agent_that_is_superseded_says_soon_that_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _polling(tmp_path, monkeypatch) as loop:
        said: list[int | None] = [loop.last.superseded_by]
        loop.client.fail(1, ErrorCode.SUPERSEDED, superseded_by=9)
        await _settle()
        said.append(loop.last.superseded_by)
        loop.client.fail(2, ErrorCode.SUPERSEDED, superseded_by=9)
        await _settle()
        said.append(loop.last.superseded_by)
        loop.client.answer(3)
        await _settle()
        said.append(loop.last.superseded_by)
    assert said == [None, 9, 9, None]
    assert loop.pauses.taken == [1.0, 15.0]


async def test_a_poll_that_a_load_balancer_sent_twice_alarms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer that came back is that of the copy which was overtaken: the other one's is lost, so ask again."""
    async with _polling(tmp_path, monkeypatch) as loop:
        loop.client.fail(1, ErrorCode.SUPERSEDED, superseded_by=loop.last.incarnation)
        await _settle()
        assert loop.seqs == [1, 2]
        assert loop.last.superseded_by is None
    assert sum(loop.pauses.taken) < 1
    assert "worker_superseded" not in caplog.text


async def test_a_relay_that_asks_for_patience_gets_it_and_is_not_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it asks: the pause is what it says, changes do not shorten it, and polls are held as before."""
    async with _polling(tmp_path, monkeypatch) as loop:
        loop.client.answer(1)
        await _settle()
        for seq in range(2, 12):
            assert loop.last.seq == seq
            assert loop.last.poll_timeout_s > 0
            loop.client.fail(seq, ErrorCode.RATE_LIMITED, retry_after_s=4.0)
            loop.table.changed()
            await _settle()
        assert loop.link.is_up
        assert loop.link.is_proven
        assert loop.link.cuts == 0
    assert loop.pauses.taken == [4.0] * 10
    assert caplog.text.count("poll_refused") == 1
    assert "relay_unreachable" not in caplog.text


async def test_a_conflicting_agent_takes_nothing_until_it_is_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = datetime.now(UTC)
    older, newer = (
        AgentSeen(instance=name, incarnation=n, seq=1, arrival=name, host=name, address="::1", last_poll_at=now)
        for n, name in enumerate(("plant-a", "plant-b"), start=1)
    )
    async with _polling(tmp_path, monkeypatch) as loop:
        loop.client.answer(1, PollAnswer(conflict=CredentialConflict(older=older, newer=newer, since=now)))
        await _settle()
        assert (loop.last.in_conflict, loop.last.free) == (True, 0)
        said = next(record for record in caplog.records if record.getMessage() == "credential_conflict")
        assert ["plant-a" in said.__dict__["fields"]["older"], "plant-b" in said.__dict__["fields"]["newer"]] == [
            True,
            True,
        ]
        loop.client.answer(loop.seqs[-1], PollAnswer(conflict_resolved=True))
        await _settle()
        assert (loop.last.in_conflict, loop.last.free) == (False, 3)


@pytest.mark.parametrize(
    ("code", "renews"),
    [
        (ErrorCode.BROKER_UNAVAILABLE, False),
        (ErrorCode.SUPERSEDED, False),
        (ErrorCode.DRAINING, False),
        (ErrorCode.UNAUTHENTICATED, False),
        (ErrorCode.INTERNAL, False),
        (None, True),
    ],
)
async def test_what_renews_the_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: ErrorCode | None, *, renews: bool
) -> None:
    """Only what shows that the centre has heard the poll. A relay without its broker may be the only one without it."""
    async with _polling(tmp_path, monkeypatch) as loop:
        if code is None:
            loop.client.answer(1)
        else:
            loop.client.fail(1, code)
        await _settle()
        assert (tmp_path / "lease").exists() is renews
