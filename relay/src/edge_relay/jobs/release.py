"""Release of a granted job: it returns to the queue, or is parked after too many releases or attempts.

A payload may be released after its start too, however long ago: its record alone decides, by the grant that it names.
"""

import random
from datetime import UTC, datetime

import structlog

from edge_broker.connection.broker import Broker
from edge_broker.jetstream.message import nak, term
from edge_broker.records import RecordStore
from edge_relay.identity.principals import Principal
from edge_relay.identity.receipts import Receipt, ReceiptKey
from edge_relay.jobs.parking import Parking
from edge_relay.jobs.stale_message import ack_if_not_waiting
from edge_relay.limits.unstarted_grants import UnstartedGrants
from edge_relay.metrics.replica import Metrics, queue_of
from edge_relay.shielded import run_to_completion
from edge_schemas.life.events import Release
from edge_schemas.life.model import JobRecord
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.job_calls import ReleaseRequest, is_signature_refusal

log = structlog.get_logger(__name__)

MAX_RELEASE_DELAY_S = 15.0


class JobRelease:
    """Returns granted jobs to their queue."""

    def __init__(
        self,
        broker: Broker,
        records: RecordStore,
        receipt_key: ReceiptKey,
        parking: Parking,
        *,
        unstarted: UnstartedGrants,
        metrics: Metrics,
    ) -> None:
        self._unstarted = unstarted
        self._broker = broker
        self._records = records
        self._receipt_key = receipt_key
        self._parking = parking
        self._metrics = metrics

    async def release(self, principal: Principal, job: str, request: ReleaseRequest) -> None:
        """Release a granted job; it returns after a delay that grows with each release.

        A started payload returns after the delay that its consumer asks for. A repeat changes nothing.

        Raises:
            EdgeError: The receipt is refused, or the job is in another state.
        """
        receipt = await self._receipt_key.open(request.receipt, job=job, worker=principal.worker)
        now = datetime.now(UTC)
        if receipt.expired(now) and not await self._was_started(receipt):
            # Its ack subject would end a later delivery, perhaps to another worker.
            self._metrics.expired_receipts.inc()
            raise EdgeError(ErrorCode.RECEIPT_EXPIRED)
        event = Release(principal.worker, request.reason, request.counted, now, receipt.grant, delay_s=request.delay_s)
        await run_to_completion(self._release(receipt, event))

    async def _was_started(self, receipt: Receipt) -> bool:
        """Whether the worker has started the job with this grant, and holds it or has released it again."""
        record = await self._records.get(receipt.job)
        if record is None:
            return False
        holder = record.holder
        is_holder = holder is not None and (holder.worker, holder.grant) == (receipt.worker, receipt.grant)
        return is_holder or record.was_released(receipt.grant)

    async def _release(self, receipt: Receipt, event: Release) -> None:
        # The order is history, record, message. So no job is parked without its history, whatever fails and whether or
        # not the call is repeated. A history whose job was not parked after all does no harm, as the record decides.
        # The message comes last: until then the job returns after the grant wait.
        async with ack_if_not_waiting(self._broker, receipt.ack_subject):
            before, after = await self._records.change(receipt.job, event, first=self._parking.keep_history)
        if after is before:
            # A repeat: the message may have been delivered to another worker since, and would be taken from it. If the
            # first call got only this far, the job returns after the grant wait.
            return
        if before.holder is not None:
            await self._started_released(after, event)
            return
        self._metrics.releases.labels(*queue_of(after)).inc()
        if is_signature_refusal(event.reason):
            self._metrics.signature_refusals.labels(*queue_of(after)).inc()
        if after.parked is not None and before.parked is None:
            self._parking.count(after)
        self._unstarted.released(receipt.worker, receipt.grant)
        releases = len(after.releases)
        log.info("job_released", queue=after.queue, reason=event.reason, counted=event.counted, releases=releases)
        if after.parked is None:
            await nak(self._broker, receipt.ack_subject, delay_s=release_delay_s(releases))
        else:
            await term(self._broker, receipt.ack_subject, "parked")
            await self._parking.report(after)

    async def _started_released(self, after: JobRecord, event: Release) -> None:
        """The message was removed at the start: relays, which watch records, republish the job."""
        self._metrics.started_releases.labels(*queue_of(after)).inc()
        log.info("started_payload_released", queue=after.queue, reason=event.reason, attempt=after.attempt)
        if after.parked is not None:
            self._parking.count(after)
            await self._parking.report(after)


def release_delay_s(releases: int) -> float:
    """How long a job is not offered after this many releases: 1 s at first, 15 s at most, with jitter."""
    delay = min(MAX_RELEASE_DELAY_S, 2.0 ** max(0, releases - 1))
    return delay * random.uniform(0.9, 1.0)  # noqa: S311  # jitter, nothing secret
