"""Desired state in memory: every replica follows the bucket, and computes from it the settings of each worker."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import structlog
from pydantic import ValidationError

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.subjects import DESIRED_BUCKET, parse_queue_token, queue_token
from edge_broker.watched_bucket import WatchedBucket
from edge_relay.desired.entries import Entries
from edge_relay.desired.keys import queue_key, site_key, worker_key
from edge_schemas.admin.desired import (
    QUEUE_PREFIX,
    AvailabilityOrder,
    DesiredEntry,
    DesiredQueue,
    DesiredSite,
    DesiredWorker,
    read_desired,
    settings_version,
    strictest,
)
from edge_schemas.wire.workers import Availability, WorkerAccess, WorkerSettings
from edge_service import task_cleanup

log = structlog.get_logger(__name__)

_E = TypeVar("_E", DesiredWorker, DesiredSite, DesiredQueue)
CHECK_S = 1.0
"""While an order has an end, the clock is compared with it at least so often: clocks are set."""
READY_WITHIN_S = 8.0
SETTLED_WITHIN_S = 3.0
NOT_READ = "what operators have set is still being read; if that lasts, run 'edge-relay streams apply'"

OnChange = Callable[[str], None]
"""Called with the key of an entry that changed, or whose order's time is over."""


@dataclass(frozen=True, slots=True)
class CurrentOrder:
    """The order that counts for a worker, and whether it is its site's."""

    order: AvailabilityOrder
    of_site: bool


class DesiredState:
    """What operators have set. Run `run()` in a task group."""

    def __init__(self, broker: Broker, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.watched = WatchedBucket(broker, DESIRED_BUCKET, self.apply)
        self._now = now
        self._entries = Entries()
        self._kick = asyncio.Event()
        self._ends: dict[str, datetime] = {}
        self._listeners: list[OnChange] = []

    @property
    def complete(self) -> asyncio.Event:
        """Set while everything is known to be in memory."""
        return self.watched.complete

    def on_change(self, listener: OnChange) -> None:
        """Call `listener` whenever an entry changes or an order's time is over."""
        self._listeners.append(listener)

    async def wait_ready(self) -> None:
        """Wait until everything is in memory; without that, a paused worker could get jobs.

        Raises:
            BrokerUnavailable: Not within `READY_WITHIN_S`.
        """
        if not await self._is_complete(READY_WITHIN_S):
            raise BrokerUnavailable(NOT_READ)

    async def settled(self) -> bool:
        """Wait, after a cut of the connection, for what was changed meanwhile; False if it is still unknown."""
        return await self._is_complete(SETTLED_WITHIN_S)

    async def run(self) -> None:
        """Follow the bucket, and notice the ends of orders, until cancelled."""
        ends = asyncio.create_task(self._watch_ends(), name="desired-state-ends")
        try:
            # Not in a task group: that cancels only once, and nats-py may swallow a cancellation.
            await self.watched.run()
        finally:
            await task_cleanup.cancel_and_wait([ends])

    def worker(self, worker: str) -> DesiredWorker:
        """Of a worker; the default if nobody has set anything."""
        return self._get(worker_key(worker), DesiredWorker)

    def site(self, site: str) -> DesiredSite:
        """Of a site."""
        return self._get(site_key(site), DesiredSite)

    def queue(self, team: str | None, queue: str) -> DesiredQueue:
        """Of a queue."""
        return self._get(queue_key(team, queue), DesiredQueue)

    def queues(self) -> list[tuple[str | None, str]]:
        """Team and name of each queue for which something is set, and whose order, if that is all, is not over."""
        return _set_queues(self._entries.all(QUEUE_PREFIX), self._now())

    def order(self, worker: str, site: str) -> CurrentOrder | None:
        """The order that counts for a worker; None if it is available."""
        own, of_site = self.worker(worker).order, self.site(site).order
        found = strictest((own, of_site), self._now())
        return None if found is None else CurrentOrder(found, found is not own)

    def is_paused(self, team: str | None, queue: str) -> bool:
        """Whether no job of a queue is granted."""
        return strictest((self.queue(team, queue).order,), self._now()) is not None

    def settings(self, access: WorkerAccess) -> WorkerSettings:
        """The settings of a worker now: of its enrolment, changed by what operators have set for it and its site."""
        own, of_site = self.worker(access.worker), self.site(access.site)
        found = self.order(access.worker, access.site)
        order = None if found is None else found.order
        return access.settings.model_copy(
            update={
                "version": settings_version(access.settings.version, (own, of_site), self._now()),
                "queues": own.queues or access.settings.queues,
                "availability": Availability.ACTIVE if order is None else order.availability,
                "availability_reason": None if order is None else f"{order.reason} (by {order.by})",
                "availability_until": None if order is None else order.until,
                "slots": own.slots,
            }
        )

    def active_queues(self, team: str | None, settings: WorkerSettings) -> tuple[str, ...]:
        """The queues, as tokens, from which a worker with these settings may get jobs now."""
        if settings.availability is not Availability.ACTIVE:
            return ()
        queues = (queue for queue in settings.queues if not self.is_paused(team, queue))
        return tuple(dict.fromkeys(queue_token(team, queue) for queue in queues))

    def apply(self, key: str, value: bytes | None) -> None:
        """Store an entry as the watch shows it."""
        before = self._entries.get(key)
        self._entries.watched(key, None if value is None else _parse(key, value))
        self._compare(key, before)

    def written(self, key: str, entry: DesiredEntry) -> None:
        """Store an entry that was written here: the caller need not wait for the watch."""
        before = self._entries.get(key)
        self._entries.written(key, entry, _clock())
        self._compare(key, before)
        self._kick.set()

    def _compare(self, key: str, before: DesiredEntry | None) -> None:
        entry = self._entries.get(key)
        if entry == before:
            return
        order = None if entry is None else entry.order
        if order is not None and order.until is not None and not order.is_over(self._now()):
            self._ends[key] = order.until
            self._kick.set()
        else:
            self._ends.pop(key, None)
        self._report(key)

    async def _watch_ends(self) -> None:
        while True:
            self._kick.clear()
            for key, entry in self._entries.forget_own(_clock()).items():
                self._compare(key, entry)
            now = self._now()
            for key in [key for key, end in self._ends.items() if end <= now]:
                del self._ends[key]
                self._report(key)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s(now)):
                    await self._kick.wait()

    def _pause_s(self, now: datetime) -> float | None:
        """Until the next end; None while there is nothing to wait for."""
        if not self._ends:
            return CHECK_S if self._entries.has_own else None
        return min(CHECK_S, max(0.0, (min(self._ends.values()) - now).total_seconds()))

    async def _is_complete(self, within_s: float) -> bool:
        if not self.complete.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self.complete.wait()
        return self.complete.is_set()

    def _get(self, key: str, model: type[_E]) -> _E:
        entry = self._entries.get(key)
        return entry if isinstance(entry, model) else model()

    def _report(self, key: str) -> None:
        for listener in self._listeners:
            listener(key)


def _set_queues(entries: list[tuple[str, DesiredEntry]], now: datetime) -> list[tuple[str | None, str]]:
    keys = (key for key, entry in entries if _says(entry, now))
    return [parse_queue_token(key.removeprefix(QUEUE_PREFIX)) for key in keys]


def _says(entry: DesiredEntry, now: datetime) -> bool:
    """Whether an entry sets anything now."""
    emptied = entry.model_copy(update={"version": 0})
    if entry.order is not None and entry.order.is_over(now):
        emptied = emptied.model_copy(update={"order": None})
    return emptied != type(entry)()


def _clock() -> float:
    return asyncio.get_running_loop().time()


def _parse(key: str, value: bytes) -> DesiredEntry | None:
    try:
        return read_desired(key, value)
    except ValidationError as error:
        log.warning("desired_state_unreadable", key=key, errors=error.error_count())
        return None
