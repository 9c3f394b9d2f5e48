"""What operators do with a job: read its record, cancel it, redrive it. Each change is audited."""

from datetime import UTC, datetime

from edge_broker.audit import Audit
from edge_broker.connection.broker import Broker
from edge_broker.records import RecordStore
from edge_broker.subjects import worker_notice
from edge_relay.identity.operators import Operator
from edge_relay.shielded import run_to_completion
from edge_schemas.admin.audit import TargetKind
from edge_schemas.life.events import Redrive, Withdraw
from edge_schemas.life.model import JobRecord
from edge_schemas.wire.errors import EdgeError, ErrorCode


class JobAdministration:
    """Operators' access to the records of jobs."""

    def __init__(self, broker: Broker, records: RecordStore, audit: Audit) -> None:
        self._broker = broker
        self._records = records
        self._audit = audit

    async def show(self, job: str) -> JobRecord:
        """The record of a job, without its workload and without the last answer to its task.

        Raises:
            EdgeError: `not_found`.
        """
        record = await self._records.get(job)
        if record is None:
            raise EdgeError(ErrorCode.NOT_FOUND, "there is no such job, or it ended more than seven days ago")
        return _without_content(record)

    async def cancel(self, job: str, *, operator: Operator, reason: str) -> JobRecord:
        """Withdraw a job and return its record: a final state may have arrived earlier. A repeat changes nothing."""
        return await run_to_completion(self._cancel(job, operator, reason))

    async def redrive(self, job: str, *, operator: Operator) -> None:
        """End the parking of a job; the executor, which watches records, republishes it. A repeat changes nothing.

        The job's history stays in `EDGE_DEAD` until the stream's age limit.
        """
        before, after = await run_to_completion(self._records.change(job, Redrive(datetime.now(UTC))))
        if after is not before:
            await self._audit.record("job-redriven", TargetKind.JOB, job, actor=operator.actor, queue=after.queue)

    async def _cancel(self, job: str, operator: Operator, reason: str) -> JobRecord:
        event = Withdraw(f"cancelled by operator {operator.name}: {reason}", datetime.now(UTC))
        before, after = await self._records.change(job, event)
        if after is not before:
            await self._audit.record(
                "job-cancelled", TargetKind.JOB, job, actor=operator.actor, queue=after.queue, reason=reason
            )
        if after.holder is not None:
            await self._broker.publish(worker_notice(after.holder.worker))
        return _without_content(after)


def _without_content(record: JobRecord) -> JobRecord:
    return record.model_copy(update={"job": None, "last_write": None})
