"""Ends submitted jobs that have waited past their time, parked ones too."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from edge_broker.connection.errors import JetStreamError
from edge_broker.records import RecordStore
from edge_relay.desired.state import DesiredState
from edge_relay.upkeep.figures import UpkeepFigures
from edge_relay.upkeep.order.times import Times
from edge_relay.upkeep.submitted_job import SubmittedJob
from edge_schemas.life.events import Expire
from edge_schemas.life.model import JobState
from edge_schemas.wire.errors import EdgeError

log = structlog.get_logger(__name__)

AT_ONCE = 16
CHECK_S = 1.0
RETRY_S = 5.0


class Expiry:
    """The waiting jobs with a time to live. Its clock is this replica's, as the time was given by a replica's clock.

    Args:
        records: Of all jobs.
        desired: Names the operator who has paused a queue.
        figures: Count what expires.
        now: The wall clock.
    """

    def __init__(
        self,
        records: RecordStore,
        desired: DesiredState,
        figures: UpkeepFigures,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._records = records
        self._desired = desired
        self._figures = figures
        self._now = now
        self._times = Times()
        self._limit = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """End what has expired once a second, until cancelled."""
        while True:
            await self.tick()
            await asyncio.sleep(CHECK_S)

    def update(self, before: SubmittedJob | None, after: SubmittedJob | None) -> None:
        """A job before and after a change of its record; None if it is not known, or not unfinished."""
        if after is not None and after.state is JobState.WAITING and after.expires_at is not None:
            self._times.set(after.id, after.expires_at)
        elif before is not None:
            self._times.discard(before.id)

    async def tick(self) -> None:
        """End what has expired by now. Jobs that can't be ended now are due again later."""
        due = self._times.due(self._now())
        async with asyncio.TaskGroup() as group:
            for job in due:
                group.create_task(self._expire(job))

    async def _expire(self, job: str) -> None:
        async with self._limit:
            try:
                await self._end(job)
            except (EdgeError, JetStreamError) as error:
                log.warning("submitted_job_not_expired", job=job, error=str(error))
                self._times.set(job, self._now() + timedelta(seconds=RETRY_S))
            except Exception:
                # A fault of ours. The other jobs must not suffer from it.
                log.exception("job_put_aside", step="expiry", job=job)
                self._figures.put_aside("expiry")

    async def _end(self, job: str) -> None:
        record = await self._records.get(job)
        if record is None or record.terms is None or record.terms.expires_at is None:
            return
        until = record.terms.expires_at.astimezone(UTC)
        reason = f"no worker took the job from queue {record.queue!r} before {until:%Y-%m-%d %H:%M:%S} UTC"
        if self._desired.is_paused(record.team, record.queue):
            reason = f"{reason}; the queue is paused"
        if record.parked is not None:
            reason = f"{reason}; the job was parked: {record.parked}"
        before, after = await self._records.change(job, Expire(reason, self._now()))
        if after is not before:
            self._figures.expired()
            log.info("submitted_job_expired", job=job, queue=after.queue, reason=reason)
