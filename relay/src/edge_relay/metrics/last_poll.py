"""The part of a worker's last poll that is exported, listed and explained."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from edge_schemas.life.agents import offline_after_s
from edge_schemas.wire.worker_entry import WorkerEntry
from edge_schemas.wire.worker_report import JobPhase

LARGEST = float(1 << 62)
"""A larger figure of a worker is ignored: a larger integer could not be written as a float."""
_VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6}){0,3}((a|b|rc|\.dev|\.post)[0-9]{1,6}){0,2}")

ValueOf = Callable[[WorkerEntry], float | None]

FIGURES: tuple[tuple[str, str, ValueOf], ...] = (
    (
        "edge_worker_last_contact_timestamp_seconds",
        "When the worker's last poll arrived, as Unix time",
        lambda entry: entry.agent.last_poll_at.timestamp(),
    ),
    ("edge_worker_slots", "Jobs the worker can run at once", lambda entry: entry.slots),
    ("edge_worker_free_slots", "Further jobs the worker can run now", lambda entry: entry.free),
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
        "Free space on the disk with the worker's state folder",
        lambda entry: entry.health.disk_free_bytes,
    ),
    (
        "edge_worker_disk_total_bytes",
        "Size of the disk with the worker's state folder",
        lambda entry: entry.health.disk_total_bytes,
    ),
    (
        "edge_worker_held_calls",
        "Calls of tasks that wait for an answer in the worker's local gateway",
        lambda entry: entry.health.held_calls,
    ),
    (
        "edge_worker_log_lag_bytes",
        "Log bytes on the worker's disk that are not uploaded yet",
        lambda entry: entry.health.log_lag_bytes,
    ),
    (
        "edge_worker_clock_skew_seconds",
        "The worker's clock minus the relay's, accurate to about a second",
        lambda entry: entry.health.clock_skew_s,
    ),
)


@dataclass(frozen=True, slots=True)
class LastPoll:
    """The part of a worker's last poll that is exported, listed and explained.

    Attributes:
        figures: In the order of `FIGURES`.
        jobs: In the order of `JobPhase`.
        versions: Of agent, Airflow and Python, then the proxy.
        is_healthy: It reported no reason for which it accepts no jobs.
        offline_after_s: Silence after which the worker counts as offline.
        age_s: Age of the poll when its entry was received.
        received_at: By the clock of `Fleet`.
        at: When it arrived, by the clock of its relay.
        airflow: Airflow's version in the worker's runtime, as the worker reports it.
        auxiliary: The kinds of auxiliary jobs that it accepts.
        kinds: The other kinds that it accepts.
        conflict_since: Since when two agents use its credential.
        granted: The jobs that it was granted and has not started.
    """

    figures: tuple[float | None, ...]
    link_cuts: float | None
    jobs: tuple[int, ...]
    versions: tuple[str, str, str, str]
    conflict_since: datetime | None
    draining: bool
    is_healthy: bool
    offline_after_s: float
    age_s: float
    received_at: float
    at: datetime
    host: str
    airflow: str | None
    no_jobs_reason: str | None
    slots: int
    free: int
    poll_timeout_s: float
    settings_version: int | None
    auxiliary: tuple[str, ...]
    kinds: tuple[str, ...]
    granted: tuple[str, ...]

    @property
    def in_conflict(self) -> bool:
        """Whether two agents use its credential."""
        return self.conflict_since is not None

    @property
    def heard_at(self) -> float:
        """When it arrived, by the clock of `Fleet`."""
        return self.received_at - self.age_s


def last_poll(entry: WorkerEntry, received_at: float, received_time: datetime) -> LastPoll:
    """The exported part of an entry.

    Args:
        entry: The worker's.
        received_at: When it was received, by the clock of `Fleet`.
        received_time: The same moment by the wall clock.
    """
    phases = Counter(job.phase for job in entry.jobs)
    versions = entry.versions
    age = received_time - entry.agent.last_poll_at
    return LastPoll(
        figures=tuple(_exportable(value_of(entry)) for _, _, value_of in FIGURES),
        link_cuts=_exportable(entry.health.link_cuts),
        jobs=tuple(phases[phase] for phase in JobPhase),
        versions=(
            version_label(versions.agent),
            version_label(versions.airflow or ""),
            version_label(versions.python),
            entry.health.proxy or "",
        ),
        conflict_since=None if entry.conflict is None else entry.conflict.since,
        draining=entry.draining,
        is_healthy=entry.no_jobs_reason is None,
        offline_after_s=offline_after_s(entry),
        age_s=max(0.0, age.total_seconds()),
        received_at=received_at,
        at=entry.agent.last_poll_at,
        host=entry.agent.host,
        airflow=versions.airflow,
        no_jobs_reason=entry.no_jobs_reason,
        slots=entry.slots,
        free=entry.free,
        poll_timeout_s=entry.poll_timeout_s,
        settings_version=entry.settings_version,
        auxiliary=entry.auxiliary,
        kinds=entry.kinds,
        granted=tuple(job.id for job in entry.jobs if job.phase is JobPhase.GRANTED),
    )


def version_label(text: str) -> str:
    """A version that a worker reported, or "other": a worker must not choose the content of a label."""
    return text if not text or _VERSION.fullmatch(text) else "other"


def _exportable(value: float | None) -> float | None:
    return float(value) if value is not None and -LARGEST < value < LARGEST else None
