"""Parking of a job after too many releases: its history is stored, counted and reported."""

import structlog

from edge_broker import parked_jobs
from edge_broker.audit import Audit
from edge_broker.connection.broker import Broker
from edge_relay.metrics.replica import Metrics, queue_of
from edge_schemas.admin.audit import TargetKind
from edge_schemas.life.model import JobRecord

log = structlog.get_logger(__name__)


class Parking:
    """Stores and reports jobs that were parked."""

    def __init__(self, broker: Broker, audit: Audit, metrics: Metrics) -> None:
        self._broker = broker
        self._audit = audit
        self._metrics = metrics

    async def keep_history(self, _: JobRecord, after: JobRecord) -> None:
        """Store the history of a job that is about to be parked."""
        await parked_jobs.keep_history(self._broker, after)

    def count(self, record: JobRecord) -> None:
        """Count a job that has just been parked."""
        self._metrics.parked.labels(*queue_of(record)).inc()

    async def report(self, record: JobRecord) -> None:
        """Report a parked job to operators."""
        await self._audit.record("job-parked", TargetKind.JOB, record.id, queue=record.queue, reason=record.parked)
        log.warning("job_parked", queue=record.queue, reason=record.parked)
