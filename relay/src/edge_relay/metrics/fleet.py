"""The workers by their credentials and their last polls. Both are followed in memory: a scrape reads nothing.

Every replica receives the entry of every poll of every worker. Entries are stored as they come. They are parsed when a
scrape or an operator needs them.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

import structlog
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import ValidationError
from typing_extensions import override

from edge_broker.connection.broker import Broker
from edge_broker.subjects import WORKERS_BUCKET
from edge_broker.watched_bucket import WatchedBucket
from edge_relay.desired.worker_state import worker_state
from edge_relay.identity.credentials import Credentials
from edge_relay.metrics.fleet_clock import FleetClock
from edge_relay.metrics.last_poll import FIGURES, LastPoll, last_poll
from edge_schemas.wire.worker_entry import WorkerEntry
from edge_schemas.wire.worker_report import JobPhase
from edge_schemas.wire.workers import WorkerAccess, WorkerState

log = structlog.get_logger(__name__)

_WORKER = ("worker", "site")
_PARSED_AT_ONCE = 100
_INFO = (*_WORKER, "team", "agent_version", "airflow_version", "python_version", "proxy")


@dataclass(frozen=True, slots=True)
class _Received:
    """An entry.

    Attributes:
        at: By the clock of `Fleet`.
        at_time: The same moment by the wall clock.
    """

    value: bytes
    at: float
    at_time: datetime


class Fleet(Collector):
    """All workers that ever enrolled. Run `run()` in a task group.

    Silence is measured by a clock that stands still while no poll can arrive: no entry can be received then, and no
    worker counts as offline because of it.

    Attributes:
        clock: That clock; what proves that polls arrive is recorded there.
        complete: Set while all entries are known.
        watched: The bucket.
    """

    def __init__(
        self, broker: Broker, credentials: Credentials, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._credentials = credentials
        self.clock = FleetClock(clock)
        self.watched = WatchedBucket(broker, WORKERS_BUCKET, self.apply)
        self._received: dict[str, _Received] = {}
        self._unparsed: set[str] = set()
        self._listeners: list[Callable[[str, bytes], None]] = []
        self._polls: dict[str, LastPoll] = {}
        self.complete = self.watched.complete

    def on_entry(self, listener: Callable[[str, bytes], None]) -> None:
        """Call `listener` with each worker and its entry as it is stored, parsed by nobody."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Follow the entries until cancelled."""
        await self.watched.run()

    def apply(self, worker: str, value: bytes | None) -> None:
        """Store an entry of the bucket."""
        if value is None:
            self._received.pop(worker, None)
            self._polls.pop(worker, None)
            self._unparsed.discard(worker)
        else:
            self._received[worker] = _Received(value, self.clock.received_at(), datetime.now(UTC))
            self._unparsed.add(worker)
            for listener in self._listeners:
                listener(worker, value)

    async def prepare(self) -> None:
        """Parse the entries that arrived since the last scrape; polls do not wait for many of them."""
        while self._unparsed:
            for worker in list(islice(self._unparsed, _PARSED_AT_ONCE)):
                self.last_poll(worker)
            await asyncio.sleep(0)

    def last_poll(self, worker: str) -> LastPoll | None:
        """A worker's last poll; None if there is none, or its entry is unreadable."""
        if worker in self._unparsed:
            self._unparsed.discard(worker)
            received = self._received[worker]
            self._polls.pop(worker, None)
            try:
                entry = WorkerEntry.model_validate_json(received.value)
            except ValidationError as error:
                log.debug("worker_entry_unreadable", errors=error.error_count())
            else:
                self._polls[worker] = last_poll(entry, received.at, received.at_time)
        return self._polls.get(worker)

    def entry(self, worker: str) -> WorkerEntry | None:
        """A worker's whole entry, parsed now; None if there is none, or it is unreadable."""
        received = self._received.get(worker)
        try:
            return None if received is None else WorkerEntry.model_validate_json(received.value)
        except ValidationError as error:
            log.debug("worker_entry_unreadable", errors=error.error_count())
            return None

    def heard_at(self, worker: str) -> float | None:
        """When the worker's last entry was received, by this clock; older ones may have been received at the start."""
        received = self._received.get(worker)
        return None if received is None else received.at

    def state(self, access: WorkerAccess) -> WorkerState:
        """The state of a worker now."""
        poll = self.last_poll(access.worker)
        silent_s = 0.0 if poll is None else self.now() - poll.heard_at
        return worker_state(
            is_revoked=access.revoked_at is not None,
            was_seen=poll is not None,
            in_conflict=poll is not None and poll.in_conflict,
            is_offline=poll is not None and silent_s > poll.offline_after_s,
            is_healthy=poll is None or poll.is_healthy,
            is_draining=poll is not None and poll.draining,
            availability=self._credentials.settings(access).availability,
        )

    @override
    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        workers = sorted(self._credentials.workers(), key=lambda access: access.worker)
        states = [(access, self.state(access)) for access in workers]
        yield from _states(states)
        known = [
            ((access.worker, access.site), access.team or "", poll)
            for access, state in states
            if state is not WorkerState.REVOKED and (poll := self._polls.get(access.worker)) is not None
        ]
        info = GaugeMetricFamily(
            "edge_worker_info", "1 for each worker; the versions and the proxy that it reports", labels=_INFO
        )
        for worker, team, poll in known:
            info.add_metric((*worker, team, *poll.versions), 1)
        yield info
        for number, (name, about, _) in enumerate(FIGURES):
            family = GaugeMetricFamily(name, about, labels=_WORKER)
            for worker, _, poll in known:
                value = poll.figures[number]
                if value is not None:
                    family.add_metric(worker, value)
            yield family
        jobs = GaugeMetricFamily("edge_worker_jobs", "Jobs of the worker, by phase", labels=(*_WORKER, "phase"))
        cuts = CounterMetricFamily(
            "edge_worker_link_cuts", "Times the worker lost the relay since its agent started", labels=_WORKER
        )
        for worker, _, poll in known:
            for phase, number in zip(JobPhase, poll.jobs, strict=True):
                jobs.add_metric((*worker, phase), number)
            if poll.link_cuts is not None:
                cuts.add_metric(worker, poll.link_cuts)
        yield from (jobs, cuts)

    def describe(self) -> Iterator[Metric]:
        """Names, types and labels."""
        yield from self.collect()

    def now(self) -> float:
        """By the clock, which stands still while no poll can arrive."""
        return self.clock.now()


def _states(states: list[tuple[WorkerAccess, WorkerState]]) -> Iterator[Metric]:
    """The counts by site and state, and the state of each worker."""
    counts = Counter((access.site, state) for access, state in states)
    workers = GaugeMetricFamily("edge_workers", "Workers by site and state", labels=("site", "state"))
    for site in sorted({access.site for access, _ in states}):
        for state in WorkerState:
            workers.add_metric((site, state), counts[site, state])
    own = GaugeMetricFamily(
        "edge_worker_state",
        "1 for the current state of a worker; revoked workers are left out",
        labels=(*_WORKER, "state"),
    )
    for access, state in states:
        if state is not WorkerState.REVOKED:
            own.add_metric((access.worker, access.site, state), 1)
    yield from (workers, own)
