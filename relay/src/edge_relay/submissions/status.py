"""The status of one job for its producers, now or at its end, and its cancellation."""

import asyncio
from datetime import UTC, datetime

import structlog

from edge_broker.audit import Audit
from edge_broker.connection.broker import Broker
from edge_broker.records import RecordStore
from edge_broker.subjects import worker_notice
from edge_relay.identity.operators.operator import Operator
from edge_relay.shielded import run_to_completion
from edge_relay.submissions.lists import SiteOf
from edge_relay.submissions.waits import StillAllowed, Waits, end_of
from edge_schemas.admin.audit import TargetKind
from edge_schemas.life.events import Withdraw
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.producers.status import job_status
from edge_schemas.producers.submissions import JobStatus
from edge_schemas.wire.errors import EdgeError, ErrorCode

log = structlog.get_logger(__name__)

READS_AT_ONCE = 32
"""After an outage, all calls that wait read their records."""


class SubmittedJobs:
    """Single jobs, as the producers of their queues see them.

    Args:
        broker: Wakes the worker of a job that is to stop.
        records: Of all jobs.
        audit: Where a cancellation is kept.
        waits: The calls that wait.
        site_of: The site of a worker.
    """

    def __init__(self, broker: Broker, records: RecordStore, audit: Audit, waits: Waits, site_of: SiteOf) -> None:
        self._broker = broker
        self._records = records
        self._audit = audit
        self._waits = waits
        self._site_of = site_of
        self._reads = asyncio.Semaphore(READS_AT_ONCE)

    async def status(self, producer: Operator, job: str, *, wait_s: float, check: StillAllowed) -> JobStatus:
        """The status of a job; after `wait_s` at the latest, or as soon as the job has ended.

        Raises:
            EdgeError: `not_found`: there is no such job in a queue of the producer. `rate_limited`: too many calls
                wait.
            BrokerUnavailable: The record can't be read.
        """
        with self._waits.waiting(producer.name, end_of(job), wait_s=wait_s) as wait:
            while True:
                record = await self.require(producer, job)
                check()
                if record.state is JobState.ENDED or not await wait.next():
                    return self._status(record)

    async def require(self, producer: Operator, job: str) -> JobRecord:
        """The record of a submitted job of one of the producer's queues; errors as for `status`."""
        async with self._reads:
            record = await self._records.get(job)
        if record is None or record.terms is None or not producer.scope.has_queue(record.queue):
            text = "there is no such job in your queues, or it ended more than seven days ago"
            raise EdgeError(ErrorCode.NOT_FOUND, text)
        return record

    async def cancel(self, producer: Operator, job: str, reason: str) -> JobStatus:
        """Cancel a job; a repeat changes nothing, nor does the cancellation of a job that has ended.

        Raises:
            EdgeError: `not_found`.
            BrokerUnavailable: The outcome is unknown; repeat the call.
        """
        await self.require(producer, job)
        return await run_to_completion(self._cancel(producer, job, reason))

    async def _cancel(self, producer: Operator, job: str, reason: str) -> JobStatus:
        text = f"cancelled by {producer.role} {producer.name}: {reason}"
        before, after = await self._records.change(job, Withdraw(text, datetime.now(UTC)))
        if after is not before:
            await self._audit.record(
                "job-cancelled",
                TargetKind.JOB,
                job,
                actor=producer.actor,
                queue=after.queue,
                reason=reason,
                before={"state": before.state.value},
                after={"state": after.state.value},
            )
            log.info("job_cancelled", job=job, queue=after.queue, by=producer.name)
            if after.holder is not None:
                await self._broker.publish(worker_notice(after.holder.worker))
        return self._status(after)

    def _status(self, record: JobRecord) -> JobStatus:
        site = None if record.holder is None else self._site_of(record.holder.worker)
        status = job_status(record, site=site)
        assert status is not None  # noqa: S101  # `require` refuses jobs without terms
        return status
