"""Parking of a job after too many releases: its history is stored, counted and reported."""

import structlog

from edge_broker.audit import Audit
from edge_broker.connection.broker import Broker
from edge_broker.subjects import dead_subject
from edge_relay.metrics.replica import Metrics, queue_of
from edge_schemas.life.model import JobRecord

log = structlog.get_logger(__name__)


class Parking:
    """Stores and reports jobs that were parked."""

    def __init__(self, broker: Broker, audit: Audit, metrics: Metrics) -> None:
        self._broker = broker
        self._audit = audit
        self._metrics = metrics

    async def keep_history(self, _: JobRecord, after: JobRecord) -> None:
        """Store the history of a job that is about to be parked in `EDGE_DEAD`. A repeat stores it again."""
        if after.parked is not None:
            history = after.model_dump_json(exclude={"job"}, exclude_none=True).encode()
            await self._broker.store(dead_subject(after.team, after.queue, after.id), history)

    def count(self, record: JobRecord) -> None:
        """Count a job that has just been parked."""
        self._metrics.parked.labels(*queue_of(record)).inc()

    async def report(self, record: JobRecord) -> None:
        """Report a parked job to operators."""
        await self._audit.record("job-parked", job=record.id, queue=record.queue, reason=record.parked)
        log.warning("job_parked", queue=record.queue, reason=record.parked)
