"""The single long-poll: sends the report, receives grants and directives.

A poll that is held open with an outdated report is not cancelled: a newer one with a higher number supersedes it, on a
second connection, and what the older one still brings is processed. Cancelling could lose a grant that is on its way.

Until an answer proves that the link works, polls are probes: they are not held open, and one that hangs does not delay
the next one, which tries another connection. A connection that hangs in a black hole would still hang after the link is
back.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Protocol

from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.job_calls import ReleaseRequest
from edge_schemas.wire.jobs import AuxiliaryKind, JobKind
from edge_schemas.wire.polls import MAX_REASON_CHARS, PROTOCOL, Poll, PollKind
from edge_schemas.wire.worker_report import WorkerHealth, WorkerVersions
from edge_worker.agent.poll_answers import PollAnswers, PollSink
from edge_worker.agent.poll_timeout import PollTimeoutTuner
from edge_worker.agent.refusals import Refusals
from edge_worker.jobs.registry import JobTable
from edge_worker.log import EventLog
from edge_worker.relay.call_result import CallError, NoAnswer, Refused
from edge_worker.relay.client import RelayClient
from edge_worker.relay.link import Link
from edge_worker.relay.poll_answer import UnreadableGrant
from edge_worker.relay.retry import Backoff, is_retryable

COALESCE_S = 0.02
"""Changes within this time are reported together."""
SUPERSEDED_GRACE_S = 5.0
IDLE_CAP_S = 10.0
"""Longest time between two tries to reach the relay. All workers of a lost relay try: it must not be too short."""
BUSY_CAP_S = 3.0
"""The same for a worker with jobs: they may have to be stopped as soon as the link is back."""

log = EventLog("edge_worker.agent.poll_loop")


class Contact(Protocol):
    """Counts the time without contact; `Fence`."""

    def now(self) -> float:
        """The time at which a poll is sent."""

    def renew(self, sent_at: float) -> None:
        """The poll that was sent at this time has arrived."""


@dataclass
class Report:
    """What a poll reports besides the jobs.

    Attributes:
        instance: See `Poll`.
        host: See `Poll`.
        auxiliary: The kinds of auxiliary jobs that the owner allows.
        kinds: The other kinds that it accepts now: tasks only while its runtime is ready.
        settings_version: Of the settings with which the agent starts.
        versions: Called for each poll: the runtime's version is unknown at first.
    """

    incarnation: int
    instance: str
    host: str
    auxiliary: tuple[AuxiliaryKind, ...]
    kinds: Callable[[], tuple[PollKind, ...]]
    settings_version: int
    versions: Callable[[], WorkerVersions]
    health: Callable[[], WorkerHealth]


@dataclass
class PollLoop:
    """Polls for as long as the agent lives; no failure ends it."""

    client: RelayClient
    table: JobTable
    link: Link
    sink: PollSink
    report: Report
    tuner: PollTimeoutTuner
    contact: Contact
    clock: Callable[[], float] = monotonic
    jitter: Callable[[], float] = random.random
    _seq: int = 0
    _failures: int = 0
    _poll_timeout_s: float = 0
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        self._answers = PollAnswers(self.table, self.sink, self.report.settings_version)
        self._refusals = Refusals(self.report.incarnation, self._backoff, self.jitter)

    async def run(self) -> None:
        """Polls until cancelled."""
        self.table.on_change(self._wake.set)
        self.link.on_suspicion(self._wake.set)
        async with asyncio.TaskGroup() as polls:
            self._group = polls
            while True:
                self._wake.clear()
                poll = self._next_poll()
                task = polls.create_task(self._poll_once(poll), name=f"poll-{poll.seq}")
                task.add_done_callback(partial(self._ended, poll.seq))
                await self._until_next(task)

    async def _until_next(self, task: asyncio.Task[float]) -> None:
        """Waits until it is time for the next poll."""
        try:
            async with asyncio.timeout(None if self._poll_timeout_s else self._spread(self._cap_s)):
                await self._wake.wait()
        except TimeoutError:
            # The hanging poll is not cancelled: on a very slow link it may be the one that succeeds.
            self._unanswered("no answer yet, trying another connection")
            return
        if task.done():
            await asyncio.sleep(task.result())
        else:
            asyncio.get_running_loop().call_later(SUPERSEDED_GRACE_S, task.cancel)
            await asyncio.sleep(COALESCE_S)

    def _ended(self, seq: int, _: asyncio.Task[float]) -> None:
        # The end of an older poll starts no new one: two polls would replace each other endlessly.
        if seq == self._seq:
            self._wake.set()

    def _next_poll(self) -> Poll:
        self._seq += 1
        self._poll_timeout_s = self._wanted_poll_timeout_s()
        return Poll(
            protocol=PROTOCOL,
            incarnation=self.report.incarnation,
            seq=self._seq,
            instance=self.report.instance,
            host=self.report.host,
            superseded_by=self._refusals.superseded_by,
            kinds=(kinds := self.report.kinds()),
            auxiliary=self.report.auxiliary if JobKind.TASK in kinds else (),
            in_conflict=self._answers.in_conflict,
            slots=self.table.slots,
            free=self.table.free,
            jobs=self.table.reports(),
            draining=self.table.is_draining,
            no_jobs_reason=(self.table.closed_because or "")[:MAX_REASON_CHARS] or None,
            poll_timeout_s=self._poll_timeout_s,
            settings_version=self._answers.settings_version,
            versions=self.report.versions(),
            health=self.report.health(),
        )

    def _wanted_poll_timeout_s(self) -> float:
        """As long as the network path allows, but well within the time until the fence of any job."""
        # Before the first answer and after a failure, a held poll could not be distinguished from a lost one.
        if self._failures or not self.link.is_proven:
            return 0
        return min([self.tuner.current_s, *(driver.job.offline.longest_poll_timeout_s for driver in self.table)])

    @property
    def _cap_s(self) -> float:
        return BUSY_CAP_S if len(self.table) or self.table.unread else IDLE_CAP_S

    def _spread(self, seconds: float) -> float:
        """Half to all of a time, so that workers do not poll at the same time."""
        return seconds * (0.5 + self.jitter() / 2)

    async def _poll_once(self, poll: Poll) -> float:
        """Sends one poll and acts on its answer; returns the seconds to wait before the next poll."""
        began, sent_at = self.clock(), self.contact.now()
        try:
            answer = await self.client.poll(poll)
        except CallError as error:
            # A refusal does not renew the lease: the relay may have lost its broker, and then its polls do not count as
            # contact at the centre.
            # A poll that a newer one has replaced shows nothing about the network path.
            return 0 if poll.seq < self._seq else self._failed(error, self.clock() - began)
        self.contact.renew(sent_at)
        self.tuner.answered(self.clock() - began)
        self._reached()
        if answer is not None:
            self._answers.handle(answer.answer)
            for grant in answer.unreadable:
                self._group.create_task(_reject(self.client, grant), name=f"reject-{grant.job}")
        self.sink.answered()
        if poll.seq < self._seq and ((answer is not None and answer.answer.grants) or self._poll_timeout_s == 0):
            # The newer poll does not name these jobs, so the relay could not stop them, and may be held open for too
            # long for them; or it is a probe that is no longer needed.
            self._wake.set()
        return 0

    def _reached(self) -> None:
        self._failures = 0
        self._refusals.clear()
        self._backoff.reset()
        self.table.open_intake("protocol")
        self.link.answered()

    def _failed(self, error: CallError, age_s: float) -> float:
        if isinstance(error, Refused):
            return self._refused(error)
        if isinstance(error, NoAnswer) and error.connected and self.tuner.cut(age_s):
            log.info("poll_timeout_shortened", poll_timeout_s=self.tuner.current_s, cut_after_s=round(age_s, 1))
        self._unanswered(str(error))
        return self._backoff.next_pause(error, cap_s=self._cap_s)

    def _unanswered(self, why: str) -> None:
        self._failures += 1
        # A kept-alive connection may have been closed just before it was used again: one failure is not a lost link.
        if self._failures > 1:
            self.link.lost(why)

    def _refused(self, error: Refused) -> float:
        decision = self._refusals.decide(error, cap_s=self._cap_s)
        if decision.is_new:
            _log_refusal(error)
        if decision.is_link_lost:
            self.link.lost(str(error))
        if decision.is_protocol_refused:
            self.table.close_intake("protocol", "the relay does not serve this worker's protocol version")
        if decision.is_revoked:
            self.sink.revoked()
        return decision.pause_s


def _log_refusal(error: Refused) -> None:
    if error.code == ErrorCode.SUPERSEDED:
        log.error("worker_superseded", reason="another agent uses this worker's credential, or a copy of its state")
    elif is_retryable(error) and error.code != ErrorCode.UNAUTHENTICATED:
        log.warning("poll_refused", code=error.code, reason=str(error))
    else:
        log.error("poll_refused", code=error.code, reason=str(error))


async def _reject(client: RelayClient, grant: UnreadableGrant) -> None:
    """Release a job that can't be read, once; without that it returns after the grant wait, and is not counted."""
    reason = "the worker can't read the job"
    log.error("job_unreadable", job=grant.job)
    try:
        await client.release(grant.job, ReleaseRequest(receipt=grant.receipt, reason=reason))
    except CallError as error:
        log.warning("unreadable_job_not_released", job=grant.job, error=str(error))
