"""Where in their lives jobs stand at a moment, so that a kill can be aimed and counted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from edge_broker.connection.broker import Broker
from edge_broker.subjects import RECORDS_BUCKET
from edge_broker.watched_bucket import WatchedBucket
from edge_schemas.life.model import JobRecord, JobState
from local.system.edge import EdgeWorker

UNREPORTED = timedelta(seconds=0.7)
"""About so long after its end the executor hears of a job and the scheduler of it; nobody outside can see when."""


class Stage(StrEnum):
    """A part of a job's life."""

    WAITING = "waiting"
    GRANTED = "granted"
    STARTED = "started, before /run"
    USER_CODE = "user code"
    FINISHING = "final state in flight"
    ACCEPTED = "final state accepted, not finished"
    REPORTING = "ended, being reported"


class Observer:
    """Follows the records of one queue's jobs, and the folders of the worker that serves it.

    Attributes:
        ended: The jobs that have ended.
    """

    def __init__(self, queue: str, jobs: Path) -> None:
        self._queue, self._jobs = queue, jobs
        self.ended: set[str] = set()
        self._records: dict[str, JobRecord] = {}

    def stages(self) -> set[Stage]:
        """Where at least one job stands now."""
        now = datetime.now(UTC)
        found = {stage for record in self._records.values() if (stage := _stage(record, now)) is not None}
        if any(not (folder / "started").exists() for folder in self._jobs.iterdir()):
            found.add(Stage.GRANTED)
        return found

    def note(self, job: str, value: bytes | None) -> None:
        """A record was written, or went."""
        if value is None:
            self._records.pop(job, None)
            return
        record = JobRecord.model_validate_json(value)
        if record.queue != self._queue:
            return
        self._records[job] = record
        if record.outcome is not None:
            self.ended.add(job)
        self._forget_old()

    def _forget_old(self) -> None:
        long_ago = datetime.now(UTC) - 2 * UNREPORTED
        old = [job for job, each in self._records.items() if each.outcome and each.outcome.ended_at < long_ago]
        for job in old:
            del self._records[job]


@asynccontextmanager
async def following(broker: Broker, queue: str, worker: EdgeWorker) -> AsyncIterator[Observer]:
    """An observer that follows while inside."""
    observer = Observer(queue, worker.state / "jobs")
    watching = asyncio.create_task(WatchedBucket(broker, RECORDS_BUCKET, observer.note).run(), name="observer")
    try:
        yield observer
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def _stage(record: JobRecord, now: datetime) -> Stage | None:
    if record.outcome is not None:
        return Stage.REPORTING if now - record.outcome.ended_at < UNREPORTED else None
    if record.state is JobState.WAITING:
        return Stage.WAITING
    if record.user_code is None:
        return Stage.STARTED
    if record.accepted_state is not None:
        return Stage.ACCEPTED
    return Stage.FINISHING if record.finishing else Stage.USER_CODE
