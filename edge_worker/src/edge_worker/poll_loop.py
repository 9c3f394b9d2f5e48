"""The one long-poll: the report goes in, grants and directives come out.

A poll that is parked with an outdated report is not cancelled: a newer one with a higher number supersedes it, on a
second connection, and whatever the older one still brings is taken. Cancelling could lose a grant that is under way.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Protocol

from edge_schemas.errors import ErrorCode
from edge_schemas.polls import PROTOCOL, Grant, Poll, PollAnswer, StopDirective, WorkerHealth, WorkerVersions
from edge_schemas.workers import WorkerSettings
from edge_worker.hold import Hold
from edge_worker.jobs import JobTable
from edge_worker.link import Link
from edge_worker.log import EventLog
from edge_worker.relay_client import CallError, NoAnswer, Refused, RelayClient
from edge_worker.retry import Backoff, is_retryable

COALESCE_S = 0.02
"""Changes that come together are reported together."""
SUPERSEDED_GRACE_S = 5.0
SLOW_S = 60.0
CAP_S = 15.0

log = EventLog("edge_worker.poll_loop")


class Desk(Protocol):
    """What becomes of the things that a poll brings."""

    def take(self, grant: Grant) -> None:
        """A job is offered."""

    def stop(self, directive: StopDirective) -> None:
        """A job is to end."""

    def adopt(self, settings: WorkerSettings) -> None:
        """The centre wants other settings."""

    def revoked(self) -> None:
        """The credential is no longer good; confirmed by a second answer."""


@dataclass
class Report:
    """What a poll says besides the jobs.

    Attributes:
        versions: Asked anew for each poll: the runtime's version is not known at once.
    """

    incarnation: int
    settings_version: int
    versions: Callable[[], WorkerVersions]
    health: Callable[[], WorkerHealth]


@dataclass
class PollLoop:
    """Polls for as long as the agent lives; no failure ends it."""

    client: RelayClient
    table: JobTable
    link: Link
    desk: Desk
    report: Report
    hold: Hold
    clock: Callable[[], float] = monotonic
    jitter: Callable[[], float] = random.random
    _seq: int = 0
    _revocations: int = 0
    _failures: int = 0
    _last_refusal: str = ""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _backoff: Backoff = field(default_factory=lambda: Backoff(cap_s=CAP_S))

    async def run(self) -> None:
        """Polls until cancelled."""
        self.table.on_change(self._wake.set)
        async with asyncio.TaskGroup() as polls:
            while True:
                self._wake.clear()
                poll = self._next_poll()
                task = polls.create_task(self._one(poll), name=f"poll-{poll.seq}")
                task.add_done_callback(partial(self._ended, poll.seq))
                await self._wake.wait()
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
        return Poll(
            protocol=PROTOCOL,
            incarnation=self.report.incarnation,
            seq=self._seq,
            slots=self.table.slots,
            free=self.table.free,
            jobs=self.table.reports(),
            draining=self.table.is_draining,
            # Until the relay has answered, a held poll could not be told from one that went nowhere.
            hold_s=self.hold.current_s if self.link.is_proven else 0,
            settings_version=self.report.settings_version,
            versions=self.report.versions(),
            health=self.report.health(),
        )

    async def _one(self, poll: Poll) -> float:
        """One poll and what follows from its answer; returns the seconds to wait before the next."""
        began = self.clock()
        try:
            answer = await self.client.poll(poll)
        except CallError as error:
            # A poll that a newer one of ours has replaced says nothing about the way to the relay.
            return 0 if poll.seq < self._seq else self._failed(error, self.clock() - began)
        self.hold.answered(self.clock() - began)
        self._reached()
        if answer is not None:
            self._act(answer)
        return 0

    def _reached(self) -> None:
        self._failures = self._revocations = 0
        self._last_refusal = ""
        self._backoff.reset()
        self.table.open_intake("protocol")
        self.link.answered()

    def _act(self, answer: PollAnswer) -> None:
        if answer.settings is not None and answer.settings.version != self.report.settings_version:
            self.report.settings_version = answer.settings.version
            self.desk.adopt(answer.settings)
        for directive in answer.stop:
            self.desk.stop(directive)
        for grant in answer.grants:
            self.desk.take(grant)

    def _failed(self, error: CallError, age_s: float) -> float:
        if isinstance(error, Refused):
            return self._refused(error)
        self._failures += 1
        if isinstance(error, NoAnswer) and error.connected and self.hold.cut(age_s):
            log.info("poll_hold_shortened", hold_s=self.hold.current_s, cut_after_s=round(age_s, 1))
        # A kept-alive connection may have been closed just before it was used again: one failure is no loss yet.
        if self._failures > 1:
            self.link.lost(str(error))
        return self._backoff.next_pause(error)

    def _refused(self, error: Refused) -> float:
        self._say_once(error)
        match error.code:
            case ErrorCode.DRAINING:
                # Spread: all workers of that relay come at once.
                return (error.retry_after_s or 0) + 5 * self.jitter()
            case ErrorCode.CREDENTIAL_REVOKED:
                self._revocations += 1
                if self._revocations == 2:
                    self.desk.revoked()
                return 2 + self.jitter() if self._revocations < 2 else SLOW_S / 2
            case ErrorCode.PROTOCOL_UNSUPPORTED:
                self.table.close_intake("protocol", "the relay does not serve this worker's protocol version")
                return SLOW_S * (0.5 + self.jitter() / 2)
            case ErrorCode.SUPERSEDED:
                return 2 * CAP_S * (0.5 + self.jitter() / 2)
            case _:
                if is_retryable(error):
                    self.link.lost(str(error))
                return self._backoff.next_pause(error)

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
