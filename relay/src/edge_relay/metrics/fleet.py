"""The workers, as their credentials and their last polls show them. Followed in memory: a scrape asks nobody."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import ValidationError
from typing_extensions import override

from edge_broker.connection.broker import Broker
from edge_broker.subjects import WORKERS_BUCKET
from edge_broker.watched_bucket import WatchedBucket
from edge_relay.identity.credentials import Credentials
from edge_schemas.life.agents import offline_after_s
from edge_schemas.wire.worker_entry import WorkerEntry
from edge_schemas.wire.worker_report import JobPhase
from edge_schemas.wire.workers import WorkerAccess, WorkerState

log = structlog.get_logger(__name__)

LARGEST = float(1 << 62)
"""A worker's figure beyond this is none; a larger integer could not even be written as a number."""
_VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6}){0,3}((a|b|rc|\.dev|\.post)[0-9]{1,6}){0,2}")
_WORKER = ("worker", "site")
_INFO = (*_WORKER, "team", "agent_version", "airflow_version", "python_version", "proxy")

ValueOf = Callable[[WorkerEntry], float | None]

_FIGURES: tuple[tuple[str, str, ValueOf], ...] = (
    (
        "edge_worker_last_contact_timestamp_seconds",
        "When the worker's last poll arrived, as Unix time",
        lambda entry: entry.agent.last_poll_at.timestamp(),
    ),
    ("edge_worker_slots", "Jobs the worker can run at once", lambda entry: entry.slots),
    ("edge_worker_free_slots", "Jobs the worker would take now", lambda entry: entry.free),
    (
        "edge_worker_cpu_busy_ratio",
        "Share of the time that the CPUs of the worker's machine were busy, between its last two polls",
        lambda entry: entry.health.cpu_busy_ratio,
    ),
    ("edge_worker_load1", "Load average of the worker's machine", lambda entry: entry.health.load_1m),
    (
        "edge_worker_memory_used_bytes",
        "Memory of the worker's machine that is in use",
        lambda entry: entry.health.memory_used_bytes,
    ),
    ("edge_worker_memory_total_bytes", "Memory of the worker's machine", lambda e: e.health.memory_total_bytes),
    (
        "edge_worker_disk_free_bytes",
        "Room where the worker's state folder is",
        lambda entry: entry.health.disk_free_bytes,
    ),
    (
        "edge_worker_disk_total_bytes",
        "Size of the disk where the worker's state folder is",
        lambda entry: entry.health.disk_total_bytes,
    ),
    (
        "edge_worker_held_calls",
        "Calls of tasks that wait in the worker's local gateway for an answer",
        lambda entry: entry.health.held_calls,
    ),
    (
        "edge_worker_log_lag_bytes",
        "Log bytes on the worker's disk that the relay does not have yet",
        lambda entry: entry.health.log_lag_bytes,
    ),
    (
        "edge_worker_clock_skew_seconds",
        "The worker's clock minus the relay's, good to about a second",
        lambda entry: entry.health.clock_skew_s,
    ),
)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is kept of a worker's last poll.

    Attributes:
        figures: In the order of `_FIGURES`.
        jobs: In the order of `JobPhase`.
        versions: Of agent, Airflow and Python, then the proxy.
        offline_after_s: Silence after which it counts as offline.
        silent_s: How long ago the poll was when it was heard of.
        heard_at: By the clock of `Fleet`.
    """

    figures: tuple[float | None, ...]
    link_cuts: float | None
    jobs: tuple[int, ...]
    versions: tuple[str, str, str, str]
    in_conflict: bool
    draining: bool
    offline_after_s: float
    silent_s: float
    heard_at: float


class Fleet(Collector):
    """All workers that ever enrolled. Run `run()` in a task group.

    Silence is reckoned by a clock that stands still while NATS is away: no poll could be heard of meanwhile, and no
    worker is offline for that.
    """

    def __init__(
        self, broker: Broker, credentials: Credentials, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._broker = broker
        self._credentials = credentials
        self._clock = clock
        self._watched = WatchedBucket(broker, WORKERS_BUCKET, self.apply)
        self._seen: dict[str, _Seen] = {}
        self._deaf_s = 0.0
        self.complete = self._watched.complete
        broker.on_connection(self._hears_again)

    async def run(self) -> None:
        """Follow the polls, for ever."""
        await self._watched.run()

    def apply(self, worker: str, value: bytes | None) -> None:
        """Take over an entry of the bucket; one that can't be read counts as none."""
        self._seen.pop(worker, None)
        if value is None:
            return
        try:
            entry = WorkerEntry.model_validate_json(value)
        except ValidationError as error:
            log.debug("worker_entry_unreadable", errors=error.error_count())
            return
        self._seen[worker] = _seen(entry, self._heard_s())

    def state(self, access: WorkerAccess) -> WorkerState:
        """What an operator has to act upon comes first."""
        seen = self._seen.get(access.worker)
        if access.revoked_at is not None:
            return WorkerState.REVOKED
        if seen is None:
            return WorkerState.NEVER_SEEN
        if seen.in_conflict:
            return WorkerState.CONFLICT
        if seen.silent_s + self._heard_s() - seen.heard_at > seen.offline_after_s:
            return WorkerState.OFFLINE
        return WorkerState.DRAINING if seen.draining else WorkerState.ONLINE

    @override
    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        everybody = sorted(self._credentials.workers(), key=lambda access: access.worker)
        states = [(access, self.state(access)) for access in everybody]
        yield from _states(states)
        known = [
            ((access.worker, access.site), access.team or "", seen)
            for access, state in states
            if state is not WorkerState.REVOKED and (seen := self._seen.get(access.worker)) is not None
        ]
        info = GaugeMetricFamily("edge_worker_info", "1 for each worker; what it said of itself", labels=_INFO)
        for worker, team, seen in known:
            info.add_metric((*worker, team, *seen.versions), 1)
        yield info
        for number, (name, about, _) in enumerate(_FIGURES):
            family = GaugeMetricFamily(name, about, labels=_WORKER)
            for worker, _, seen in known:
                value = seen.figures[number]
                if value is not None:
                    family.add_metric(worker, value)
            yield family
        jobs = GaugeMetricFamily("edge_worker_jobs", "Jobs that the worker has", labels=(*_WORKER, "phase"))
        cuts = CounterMetricFamily(
            "edge_worker_link_cuts", "Times the worker lost the relay since its agent began", labels=_WORKER
        )
        for worker, _, seen in known:
            for phase, number in zip(JobPhase, seen.jobs, strict=True):
                jobs.add_metric((*worker, phase), number)
            if seen.link_cuts is not None:
                cuts.add_metric(worker, seen.link_cuts)
        yield from (jobs, cuts)

    def describe(self) -> Iterator[Metric]:
        """Names, types and labels."""
        yield from self.collect()

    def _heard_s(self) -> float:
        lost_at = self._broker.lost_at
        is_deaf = lost_at is not None and not self._broker.connected
        return (lost_at if is_deaf and lost_at is not None else self._clock()) - self._deaf_s

    def _hears_again(self) -> None:
        if self._broker.lost_at is not None:
            self._deaf_s += self._clock() - self._broker.lost_at


def _states(states: list[tuple[WorkerAccess, WorkerState]]) -> Iterator[Metric]:
    """Counts by site, each state of each site, and every worker's own."""
    counts = Counter((access.site, state) for access, state in states)
    workers = GaugeMetricFamily("edge_workers", "Workers by site and state", labels=("site", "state"))
    for site in sorted({access.site for access, _ in states}):
        for state in WorkerState:
            workers.add_metric((site, state), counts[site, state])
    own = GaugeMetricFamily(
        "edge_worker_state",
        "1 for the state that a worker is in; revoked ones are left out",
        labels=(*_WORKER, "state"),
    )
    for access, state in states:
        if state is not WorkerState.REVOKED:
            own.add_metric((access.worker, access.site, state), 1)
    yield from (workers, own)


def _seen(entry: WorkerEntry, heard_at: float) -> _Seen:
    phases = Counter(job.phase for job in entry.jobs)
    versions = entry.versions
    silence = datetime.now(UTC) - entry.agent.last_poll_at
    return _Seen(
        figures=tuple(_plain(value_of(entry)) for _, _, value_of in _FIGURES),
        link_cuts=_plain(entry.health.link_cuts),
        jobs=tuple(phases[phase] for phase in JobPhase),
        versions=(
            version_label(versions.agent),
            version_label(versions.airflow or ""),
            version_label(versions.python),
            entry.health.proxy or "",
        ),
        in_conflict=entry.conflict is not None,
        draining=entry.draining,
        offline_after_s=offline_after_s(entry),
        silent_s=max(0.0, silence.total_seconds()),
        heard_at=heard_at,
    )


def version_label(text: str) -> str:
    """A version that a worker told, if it looks like one: else anybody could write what they like into a label."""
    return text if not text or _VERSION.fullmatch(text) else "other"


def _plain(value: float | None) -> float | None:
    return float(value) if value is not None and -LARGEST < value < LARGEST else None
