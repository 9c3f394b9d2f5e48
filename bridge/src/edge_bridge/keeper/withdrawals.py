"""Withdraws the jobs that Airflow no longer wants."""

from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from edge_bridge.airflow.mapping import ACTIVE_STATES
from edge_bridge.keeper.dispatch import TaskRow
from edge_bridge.keeper.metrics import KeeperMetrics
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import JetStreamError
from edge_broker.records import RecordStore
from edge_broker.subjects import worker_notice
from edge_schemas.life.events import Withdraw
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.errors import EdgeError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Unwanted:
    """Why Airflow no longer wants a job.

    Attributes:
        kind: One of a few, for metrics.
        reason: For people.
    """

    kind: str
    reason: str


def unwanted(record: JobRecord, row: TaskRow | None) -> Unwanted | None:
    """Why Airflow no longer wants this job, or None if it does or if it is too late to stop the job."""
    if record.finishing or record.accepted_state is not None or record.state is JobState.STOPPING:
        return None
    if row is None:
        return Unwanted("gone", "the task instance was cleared, retried or deleted in Airflow")
    if row.dispatch != record.id:
        return Unwanted("redispatched", "Airflow has dispatched the task instance again")
    # A running task instance that is cleared gets a new id in addition to the state RESTARTING.
    if row.state not in ACTIVE_STATES:
        return Unwanted("state", f"the task instance is {row.state or 'without a state'} in Airflow")
    return None


class Withdrawals:
    """Withdraws jobs from their workers."""

    def __init__(self, broker: Broker, records: RecordStore, metrics: KeeperMetrics) -> None:
        self._broker = broker
        self._records = records
        self._metrics = metrics

    async def withdraw(self, record: JobRecord, why: Unwanted) -> None:
        """Change the record, and notify the worker if it has to stop something.

        The record decides: a job whose final state is on its way to Airflow, or that has ended, stays as it is. The
        message of a waiting job is removed by the executor, which sees the record end.
        """
        try:
            before, after = await self._records.change(record.id, Withdraw(why.reason, datetime.now(UTC)))
        except EdgeError as error:
            # Found again by the next check, unless the record itself is gone.
            log.warning("withdraw_failed", job=record.id, code=error.code)
            return
        except JetStreamError as error:
            # The disk may be full. Heartbeats must continue meanwhile.
            log.warning("withdraw_refused", job=record.id, error=str(error))
            return
        if after is before:
            return
        self._metrics.withdrawn(after, why.kind)
        ti_id = None if record.task is None else record.task.ti_id
        log.info("job_withdrawn", job=record.id, ti=ti_id, state=after.state, reason=why.reason)
        if after.state is JobState.STOPPING and after.holder is not None:
            await self._broker.publish(worker_notice(after.holder.worker))
