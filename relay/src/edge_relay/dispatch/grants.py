"""Grants: jobs that were delivered for a poll are offered to its worker, or returned to their queue."""

import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

from edge_broker.connection.broker import Broker
from edge_broker.jetstream.message import ack, nak
from edge_broker.records import RecordStore
from edge_relay.dispatch import directives
from edge_relay.dispatch.polls import ParkedPoll
from edge_relay.identity.receipts import Receipt, ReceiptKey, seal
from edge_relay.metrics.replica import Metrics, queue_of
from edge_relay.pulls.deliveries import Delivery
from edge_schemas.signing.payload import restored
from edge_schemas.wire.jobs import Job, TaskWork
from edge_schemas.wire.polls import GRANT_WAIT_S, Grant
from edge_schemas.wire.worker_report import JobPhase

ALREADY_HELD_DELAY_S = 5.0


class Granter:
    """Makes the grants of one poll."""

    def __init__(
        self, broker: Broker, records: RecordStore, receipt_key: ReceiptKey, metrics: Metrics, parked: ParkedPoll
    ) -> None:
        self._broker = broker
        self._records = records
        self._receipt_key = receipt_key
        self._metrics = metrics
        self._parked = parked

    async def keep_usable(self, delivered: list[Delivery], queues: Collection[str]) -> None:
        """Remove what this worker may not or need not be offered from `delivered`; it returns to its queue.

        Args:
            delivered: Jobs that were delivered for the poll.
            queues: Those that the worker may serve now, as tokens.

        Raises:
            BrokerUnavailable: A record could not be read.
        """
        if not delivered:
            return
        busy = {job.id for job in self._parked.poll.jobs if job.phase is not JobPhase.GRANTED}
        returns = self._metrics.returns
        for delivery in list(delivered):
            if delivery.queue not in queues:
                returns.labels("not_served").inc()
                await nak(self._broker, delivery.ack_subject)
            elif delivery.job.id not in busy:
                continue
            elif await self._is_start_repeated(delivery.job.id):
                await ack(self._broker, delivery.ack_subject)
            else:
                returns.labels("already_held").inc()
                await nak(self._broker, delivery.ack_subject, delay_s=ALREADY_HELD_DELAY_S)
            delivered.remove(delivery)

    async def _is_start_repeated(self, job: str) -> bool:
        return directives.is_start_repeated(self._parked.worker, await self._records.get_if_readable(job))

    async def grant(self, delivery: Delivery, centre_airflow: str | None) -> Grant:
        """The grant of a delivered job.

        Args:
            delivery: The job.
            centre_airflow: Replaces the version of Airflow in the job, which was that of its publishing.
        """
        key = await self._receipt_key.get()
        expires_at = delivery.arrived_at + timedelta(seconds=GRANT_WAIT_S)
        receipt = Receipt(delivery.ack_subject, delivery.queue, delivery.job.id, self._parked.worker, expires_at)
        job = restored(_with_airflow(delivery.job, centre_airflow))
        return Grant(job=job, receipt=seal(key, receipt), expires_at=expires_at)

    async def return_to_queue(self, unused: Sequence[Delivery]) -> None:
        """Make these jobs available to another poll at once: the connection of this poll is gone."""
        for delivery in unused:
            self._metrics.returns.labels("poll_gone").inc()
            await nak(self._broker, delivery.ack_subject)

    def measure(self, granted: Sequence[Delivery]) -> None:
        """Count and time jobs whose grants were sent."""
        for delivery in granted:
            queue = queue_of(delivery.job)
            self._metrics.grants.labels(*queue).inc()
            waited = datetime.now(UTC) - delivery.job.published_at
            self._metrics.queue_wait_seconds.labels(*queue).observe(max(0.0, waited.total_seconds()))
            self._metrics.hand_out_seconds.observe(time.monotonic() - delivery.arrived)


def _with_airflow(job: Job, version: str | None) -> Job:
    if version is None or not isinstance(job.work, TaskWork):
        return job
    return job.model_copy(update={"work": job.work.model_copy(update={"airflow_version": version})})
