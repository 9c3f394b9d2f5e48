"""What is wrong with a worker, in words, and what to do about it."""

from collections.abc import Iterator
from datetime import datetime

from edge_relay.fleet.workers.index import WorkerView
from edge_schemas.life.versions import RUNTIME_NOT_READY, runtime_mismatch
from edge_schemas.wire.jobs import JobKind
from edge_schemas.wire.worker_entry import WorkerEntry
from edge_schemas.wire.workers import WorkerState

LEAST_DISK_BYTES = 1 << 30
LARGEST_SKEW_S = 30.0
"""As the alerts have it."""
_MIB = 1 << 20
NO_RUNTIME = "it has no Airflow runtime: run 'edge-worker runtime install' on it"


def worker_problems(view: WorkerView, entry: WorkerEntry, centre_airflow: str | None, now: datetime) -> tuple[str, ...]:
    """Most important first; empty if nothing is wrong. Arguments as for `worker_row`."""
    if view.state is WorkerState.REVOKED:
        return ()
    return tuple(_problems(view, entry, centre_airflow, now))


def reason_without_runtime(entry: WorkerEntry) -> str | None:
    """Why the worker accepts no jobs; None if the reason says no more than `NO_RUNTIME`."""
    is_known = entry.versions.airflow is None and entry.no_jobs_reason == RUNTIME_NOT_READY
    return None if is_known else entry.no_jobs_reason


def _problems(view: WorkerView, entry: WorkerEntry, centre_airflow: str | None, now: datetime) -> Iterator[str]:
    if entry.conflict is not None:
        hosts = f"{entry.conflict.older.host or 'an unnamed host'} and {entry.conflict.newer.host or 'an unnamed host'}"
        yield f"two agents use its credential, on {hosts}: decide which one is the worker"
    if view.state is WorkerState.OFFLINE:
        yield f"silent for {in_words((now - entry.agent.last_poll_at).total_seconds())}"
        return  # what follows is known only of a worker that polls
    reason = reason_without_runtime(entry)
    if reason is not None:
        yield f"accepts no jobs: {reason}"
    elif entry.versions.airflow is None and not _runs_other_jobs(entry):
        yield NO_RUNTIME
    mismatch = runtime_mismatch(entry.versions.airflow, centre_airflow)
    if mismatch is not None:
        yield mismatch
    health = entry.health
    if health.disk_free_bytes is not None and health.disk_free_bytes < LEAST_DISK_BYTES:
        yield f"disk nearly full: {health.disk_free_bytes // _MIB} MiB free where its state folder is"
    if health.clock_skew_s is not None and abs(health.clock_skew_s) > LARGEST_SKEW_S:
        side = "ahead of" if health.clock_skew_s > 0 else "behind"
        yield f"its clock is {abs(health.clock_skew_s):.0f} s {side} the relay's"
    if entry.settings_version is not None and entry.settings_version < view.settings.version:
        yield (
            f"its settings are not applied: it has version {entry.settings_version}, "
            f"operators want {view.settings.version}"
        )


def _runs_other_jobs(entry: WorkerEntry) -> bool:
    """Whether the worker needs no runtime for what it does: it accepts commands or payloads."""
    return any(kind in entry.kinds for kind in (JobKind.COMMAND, JobKind.PAYLOAD))


def in_words(seconds: float) -> str:
    """A time span for people: the largest unit that is reached twice."""
    whole = max(0, int(seconds))
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if whole >= 2 * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"
