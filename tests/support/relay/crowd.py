"""Many workers, as their credentials and their last polls are stored."""

from datetime import UTC, datetime

from edge_schemas.wire.worker_entry import AgentSeen, WorkerEntry
from edge_schemas.wire.worker_report import WorkerHealth, WorkerVersions
from edge_schemas.wire.workers import WorkerAccess, WorkerSettings

SITES, QUEUES = 250, 40


def access_of(number: int) -> WorkerAccess:
    """The credential of a worker."""
    return WorkerAccess(
        worker=f"w{number:05}",
        secret_hash=f"{number:064x}",
        site=f"site-{number % SITES}",
        settings=WorkerSettings(version=1, queues=("default", f"q{number % QUEUES}")),
        enrolled_at=datetime.now(UTC),
    )


def entry_of(access: WorkerAccess, *, at: datetime | None = None) -> bytes:
    """The entry of a worker that polled at this moment, now unless given."""
    seen = AgentSeen(
        instance="i",
        incarnation=1,
        seq=1,
        arrival="a",
        host=f"host-{access.worker}",
        address="192.0.2.1",
        last_poll_at=at or datetime.now(UTC),
    )
    entry = WorkerEntry(
        worker=access.worker,
        site=access.site,
        queues=access.settings.queues,
        settings_version=1,
        agent=seen,
        relay="r",
        poll_timeout_s=50,
        slots=4,
        free=2,
        draining=False,
        jobs=(),
        versions=WorkerVersions(agent="1", python="3.11", platform="x", airflow="3.1.0"),
        health=WorkerHealth(disk_free_bytes=1 << 40, disk_total_bytes=1 << 41, clock_skew_s=0.1),
    )
    return entry.model_dump_json(exclude_none=True).encode()
