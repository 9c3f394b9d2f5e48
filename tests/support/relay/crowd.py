"""Many workers and jobs, as they are stored and as a replica holds them in memory."""

import asyncio
from datetime import UTC, datetime

from edge_relay.parts.build import Parts
from edge_schemas.life.model import new_record
from edge_schemas.wire.worker_entry import AgentSeen, WorkerEntry
from edge_schemas.wire.worker_report import WorkerHealth, WorkerVersions
from edge_schemas.wire.workers import WorkerAccess, WorkerSettings
from support.relay.jobs import make_job

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


async def fill(parts: Parts, *, workers: int, jobs: int) -> None:
    """Put workers and unfinished jobs into the memory of a replica, as its watches would."""
    for number in range(workers):
        access = access_of(number)
        parts.identity.credentials._apply(f"worker.{access.secret_hash}", access.model_dump_json().encode())
        parts.exports.fleet.apply(access.worker, entry_of(access))
    for number in range(jobs):
        record = new_record(make_job(f"q{number % QUEUES}"))
        parts.mirror._apply(record.id, record.model_dump_json(exclude_none=True).encode())
        if number % 1000 == 0:
            await asyncio.sleep(0)
