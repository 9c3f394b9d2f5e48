"""The one long-poll: the report goes in, grants and directives come out.

A poll that is parked with an outdated report is not cancelled: a newer one with a higher number supersedes it, on a
second connection, and whatever the older one still brings is taken. Cancelling could lose a grant that is under way.

While nothing proves that the link works a poll is a probe: it is not held, and one that hangs does not keep the next
from trying another connection. What hangs in a black hole would hang on after the link is back.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Protocol

from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.polls import MAX_REASON_CHARS, PROTOCOL, Grant, Poll, PollAnswer, StopDirective
from edge_schemas.wire.worker_entry import AgentSeen, CredentialConflict
from edge_schemas.wire.worker_report import WorkerHealth, WorkerVersions
from edge_schemas.wire.workers import WorkerSettings
from edge_worker.agent.poll_timeout import Hold
from edge_worker.jobs.lease import Fence
from edge_worker.jobs.registry import JobRegistry
from edge_worker.log import EventLog
from edge_worker.relay.call_result import CallError, NoAnswer, Refused
from edge_worker.relay.client import RelayClient
from edge_worker.relay.link import Link
from edge_worker.relay.retry import Backoff, is_retryable

COALESCE_S = 0.02
"""Changes that come together are reported together."""
SUPERSEDED_GRACE_S = 5.0
SLOW_S = 60.0
IDLE_CAP_S = 10.0
"""Longest time between two tries to reach the relay. All workers of a lost relay try on: it must not be too short."""
BUSY_CAP_S = 3.0
"""The same for a worker with jobs: somebody may want them stopped as soon as the link is back."""
SUPERSEDED_FIRST_S = 1.0
SUPERSEDED_S = 30.0

log = EventLog("edge_worker.agent.poll_loop")


class PollHandler(Protocol):
    """What becomes of the things that a poll brings."""

    def take(self, grant: Grant) -> None:
        """A job is offered."""

    def stop(self, directive: StopDirective) -> None:
        """A job is to end."""

    def adopt(self, settings: WorkerSettings) -> None:
        """The centre wants other settings."""

    def runtime_refused(self, centre: str) -> None:
        """The runtime is too new for a job: the centre has this version of Airflow."""

    def revoked(self) -> None:
        """The credential is no longer good; confirmed by a second answer."""


@dataclass
class Report:
    """What a poll says besides the jobs.

    Attributes:
        instance: See `Poll`.
        host: See `Poll`.
        versions: Asked anew for each poll: the runtime's version is not known at once.
    """

    incarnation: int
    instance: str
    host: str
    settings_version: int
    versions: Callable[[], WorkerVersions]
    health: Callable[[], WorkerHealth]


@dataclass
class PollLoop:
    """Polls for as long as the agent lives; no failure ends it."""

    client: RelayClient
    table: JobRegistry
    link: Link
    handler: PollHandler
    report: Report
    hold: Hold
    fence: Fence
    clock: Callable[[], float] = monotonic
    jitter: Callable[[], float] = random.random
    _seq: int = 0
    _revocations: int = 0
    _failures: int = 0
    _last_refusal: str = ""
    _poll_timeout_s: float = 0
    _superseded_by: int | None = None
    _in_conflict: bool = False
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _backoff: Backoff = field(default_factory=Backoff)

    async def run(self) -> None:
        """Polls until cancelled."""
        self.table.on_change(self._wake.set)
        self.link.on_suspicion(self._wake.set)
        async with asyncio.TaskGroup() as polls:
            while True:
                self._wake.clear()
                poll = self._next_poll()
                task = polls.create_task(self._one(poll), name=f"poll-{poll.seq}")
                task.add_done_callback(partial(self._ended, poll.seq))
                await self._until_next(task)

    async def _until_next(self, task: asyncio.Task[float]) -> None:
        """Waits until it is time for the next poll."""
        try:
            async with asyncio.timeout(None if self._poll_timeout_s else self._spread(self._cap_s)):
                await self._wake.wait()
        except TimeoutError:
            # The hanging one is not cancelled: on a very slow link it may be the one that comes through.
            self._unanswered("no answer yet, trying another connection")
            return
        if task.done():
            await asyncio.sleep(task.result())
        else:
            asyncio.get_running_loop().call_later(SUPERSEDED_GRACE_S, task.cancel)
            await asyncio.sleep(COALESCE_S)

    def _ended(self, seq: int, _: asyncio.Task[float]) -> None:
        # An older poll's end calls for no other one: two polls would replace each other without end.
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
            superseded_by=self._superseded_by,
            in_conflict=self._in_conflict,
            slots=self.table.slots,
            free=self.table.free,
            jobs=self.table.reports(),
            draining=self.table.is_draining,
            no_jobs_reason=(self.table.closed_because or "")[:MAX_REASON_CHARS] or None,
            poll_timeout_s=self._poll_timeout_s,
            settings_version=self.report.settings_version,
            versions=self.report.versions(),
            health=self.report.health(),
        )

    def _wanted_poll_timeout_s(self) -> float:
        """As long as the way bears it, but so that a job's fence does not come near while a poll is parked."""
        # Until the relay has answered, a held poll could not be told from one that went nowhere; nor after a failure.
        if self._failures or not self.link.is_proven:
            return 0
        return min([self.hold.current_s, *(held.job.offline.longest_poll_timeout_s for held in self.table)])

    @property
    def _cap_s(self) -> float:
        return BUSY_CAP_S if len(self.table) or self.table.unread else IDLE_CAP_S

    def _spread(self, seconds: float) -> float:
        """Not all workers at once."""
        return seconds * (0.5 + self.jitter() / 2)

    async def _one(self, poll: Poll) -> float:
        """One poll and what follows from its answer; returns the seconds to wait before the next."""
        began, sent_at = self.clock(), self.fence.now()
        try:
            answer = await self.client.poll(poll)
        except CallError as error:
            # No refusal renews the lease: a relay that has lost its broker may be the only one, and the centre does not
            # hear of the polls that come to it.
            # A poll that a newer one of ours has replaced says nothing about the way to the relay.
            return 0 if poll.seq < self._seq else self._failed(error, self.clock() - began)
        self.fence.renew(sent_at)
        self.hold.answered(self.clock() - began)
        self._reached()
        if answer is not None:
            self._act(answer)
        if poll.seq < self._seq and (self._poll_timeout_s == 0 or self._poll_timeout_s > self._wanted_poll_timeout_s()):
            # The newer one is a probe that has become needless, or is parked for too long for what this one brought.
            self._wake.set()
        return 0

    def _reached(self) -> None:
        self._failures = self._revocations = 0
        self._superseded_by = None
        self._last_refusal = ""
        self._backoff.reset()
        self.table.open_intake("protocol")
        self.link.answered()

    def _act(self, answer: PollAnswer) -> None:
        if answer.settings is not None and answer.settings.version != self.report.settings_version:
            self.report.settings_version = answer.settings.version
            self.handler.adopt(answer.settings)
        if answer.conflict is not None and not self._in_conflict:
            self._begin_conflict(answer.conflict)
        if answer.conflict_resolved and self._in_conflict:
            self._in_conflict = False
            log.info("credential_conflict_resolved")
            self.table.open_intake("conflict")
        if answer.required_airflow is not None:
            self.handler.runtime_refused(answer.required_airflow)
        for directive in answer.stop:
            self.handler.stop(directive)
        for grant in answer.grants:
            self.handler.take(grant)

    def _begin_conflict(self, conflict: CredentialConflict) -> None:
        self._in_conflict = True
        log.error(
            "credential_conflict",
            older=_name(conflict.older),
            newer=_name(conflict.newer),
            means="two agents use one worker's credential: a state folder was copied. This one, the newer, takes no "
            "jobs until an operator says which of the two is the worker",
        )
        self.table.close_intake("conflict", "the worker's credential is in conflict")

    def _failed(self, error: CallError, age_s: float) -> float:
        if isinstance(error, Refused):
            return self._refused(error)
        if isinstance(error, NoAnswer) and error.connected and self.hold.cut(age_s):
            log.info("poll_timeout_shortened", poll_timeout_s=self.hold.current_s, cut_after_s=round(age_s, 1))
        self._unanswered(str(error))
        return self._backoff.next_pause(error, cap_s=self._cap_s)

    def _unanswered(self, why: str) -> None:
        self._failures += 1
        # A kept-alive connection may have been closed just before it was used again: one failure is no loss yet.
        if self._failures > 1:
            self.link.lost(why)

    def _refused(self, error: Refused) -> float:
        if error.code == ErrorCode.SUPERSEDED and error.problem.superseded_by == self.report.incarnation:
            # Something on the way has sent this poll twice. The other copy counts, and its answer went nowhere.
            return self._backoff.next_pause(error, cap_s=self._cap_s)
        self._say_once(error)
        match error.code:
            case ErrorCode.DRAINING:
                # Spread: all workers of that relay come at once.
                return (error.retry_after_s or 0) + 5 * self.jitter()
            case ErrorCode.CREDENTIAL_REVOKED:
                self._revocations += 1
                if self._revocations == 2:
                    self.handler.revoked()
                return 2 + self.jitter() if self._revocations < 2 else SLOW_S / 2
            case ErrorCode.PROTOCOL_UNSUPPORTED:
                self.table.close_intake("protocol", "the relay does not serve this worker's protocol version")
                return SLOW_S * (0.5 + self.jitter() / 2)
            case ErrorCode.SUPERSEDED:
                return self._superseded(error.problem.superseded_by)
            case _:
                if is_retryable(error):
                    self.link.lost(str(error))
                return self._backoff.next_pause(error, cap_s=self._cap_s)

    def _superseded(self, by: int | None) -> float:
        """The first time this agent says soon that it lives: only that shows that the credential was copied."""
        is_news = by != self._superseded_by
        self._superseded_by = by
        return SUPERSEDED_FIRST_S + 2 * self.jitter() if is_news else self._spread(SUPERSEDED_S)

    def _say_once(self, error: Refused) -> None:
        if error.code == self._last_refusal:
            return
        self._last_refusal = error.code
        if error.code == ErrorCode.SUPERSEDED:
            log.error("worker_superseded", reason="another agent uses this worker's credential, or a copy of its state")
        elif is_retryable(error) and error.code != ErrorCode.UNAUTHENTICATED:
            log.warning("poll_refused", code=error.code, reason=str(error))
        else:
            log.error("poll_refused", code=error.code, reason=str(error))


def _name(agent: AgentSeen) -> str:
    """For people."""
    return f"incarnation {agent.incarnation} on {agent.host or 'an unnamed host'}, seen from {agent.address}"
