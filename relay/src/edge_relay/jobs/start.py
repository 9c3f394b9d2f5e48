"""Start of a granted job: exactly one worker becomes its holder."""

from datetime import UTC, datetime, timedelta

import structlog

from edge_broker.connection.broker import Broker
from edge_broker.jetstream.message import ack, nak
from edge_broker.records import RecordStore
from edge_relay.dispatch.queue_limits import LimitReached, QueueLimits
from edge_relay.identity.principals import Principal
from edge_relay.identity.receipts import Receipt, ReceiptKey
from edge_relay.jobs.stale_message import ack_if_not_waiting
from edge_relay.jobs.takeover import check_takeover
from edge_relay.limits.unstarted_grants import UnstartedGrants
from edge_relay.metrics.replica import Metrics, queue_of
from edge_relay.shielded import run_to_completion
from edge_relay.stores.worker_store import WorkerStore
from edge_relay.tracing import RelayJobSpans
from edge_schemas.life.events import Release, Start
from edge_schemas.life.model import JobRecord
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.job_calls import StartRequest
from edge_schemas.wire.polls import GRANT_WAIT_S

log = structlog.get_logger(__name__)

OVER_LIMIT_DELAY_S = 1.0
"""Another replica may not know yet that the queue has reached its limit, and would grant the job again."""


class JobStart:
    """Makes the worker that presents a receipt the holder of the job."""

    def __init__(
        self,
        broker: Broker,
        records: RecordStore,
        workers: WorkerStore,
        receipt_key: ReceiptKey,
        *,
        limits: QueueLimits,
        unstarted: UnstartedGrants,
        metrics: Metrics,
        spans: RelayJobSpans,
    ) -> None:
        self._limits = limits
        self._unstarted = unstarted
        self._broker = broker
        self._records = records
        self._workers = workers
        self._receipt_key = receipt_key
        self._metrics = metrics
        self._spans = spans

    async def start(self, principal: Principal, job: str, request: StartRequest) -> None:
        """Start a job for its worker; a repeat changes nothing.

        Raises:
            EdgeError: The receipt or the worker is refused, or the job can't be started.
        """
        receipt = await self._receipt_key.open(request.receipt, job=job, worker=principal.worker)
        await run_to_completion(self._start(principal, receipt, request.incarnation))

    async def _start(self, principal: Principal, receipt: Receipt, incarnation: int) -> None:
        if receipt.expired(datetime.now(UTC)):
            await self._require_started(receipt)
        if receipt.queue not in principal.queues and not await self._is_holder(receipt):
            await self._return(principal, receipt)
            raise EdgeError(ErrorCode.FORBIDDEN, "the worker no longer serves this queue")
        event = Start(principal.worker, incarnation, datetime.now(UTC), receipt.grant, principal.agent_key_hash)
        guard = self._limits.guard()

        async def first(before: JobRecord, _: JobRecord) -> int | None:
            await check_takeover(self._workers, before, principal, incarnation)
            return guard(before) if before.holder is None else None

        try:
            async with ack_if_not_waiting(self._broker, receipt.ack_subject):
                before, after = await self._records.change(receipt.job, event, first=first)
                if after is before:
                    # The answer lets the agent run the job.
                    await check_takeover(self._workers, after, principal, incarnation)
        except LimitReached:
            await self._wait_again(principal, receipt)
            raise
        self._unstarted.started(principal.worker, receipt.grant)
        await ack(self._broker, receipt.ack_subject)
        if after is not before:
            if before.holder is None:
                self._count(receipt, after, event.at)
            self._spans.started(before, after, receipt, principal.site)
            log.info("job_started", queue=after.queue)

    async def _wait_again(self, principal: Principal, receipt: Receipt) -> None:
        """Return the job of a grant to its queue, which has reached its limit: the record knows nothing of a grant."""
        self._unstarted.released(principal.worker, receipt.grant)
        log.info("start_over_limit", queue=receipt.queue)
        await nak(self._broker, receipt.ack_subject, delay_s=OVER_LIMIT_DELAY_S)

    async def _return(self, principal: Principal, receipt: Receipt) -> None:
        """Return the job of a grant to its queue, once for each grant."""
        reason = "the worker no longer serves the queue"
        event = Release(principal.worker, reason, counted=False, at=datetime.now(UTC), grant=receipt.grant)
        async with ack_if_not_waiting(self._broker, receipt.ack_subject):
            before, after = await self._records.change(receipt.job, event)
        if after is not before:
            await nak(self._broker, receipt.ack_subject)

    def _count(self, receipt: Receipt, record: JobRecord, at: datetime) -> None:
        """Once for each holder, however often the call is repeated."""
        self._metrics.starts.labels(*queue_of(record)).inc()
        waited = at - (receipt.expires_at - timedelta(seconds=GRANT_WAIT_S))
        self._metrics.start_confirm_seconds.observe(max(0.0, waited.total_seconds()))

    async def _require_started(self, receipt: Receipt) -> None:
        """Accept a late start only as a repeat of a start whose answer was lost.

        Raises:
            EdgeError: `receipt_expired`.
        """
        if not await self._is_holder(receipt):
            self._metrics.expired_receipts.inc()
            raise EdgeError(ErrorCode.RECEIPT_EXPIRED)

    async def _is_holder(self, receipt: Receipt) -> bool:
        """Whether the worker holds the job already: it may finish a job that it began, also after a queue change."""
        record = await self._records.get(receipt.job)
        return record is not None and record.holder is not None and record.holder.worker == receipt.worker
