"""Finish of a job: its holder reports that the processes are gone, or releases the job before user code ran."""

from datetime import UTC, datetime

import structlog

from edge_broker.records import RecordStore
from edge_relay.identity.principals import Principal
from edge_relay.identity.receipts import ReceiptKey
from edge_relay.jobs.parking import Parking
from edge_relay.jobs.takeover import check_takeover
from edge_relay.metrics.replica import Metrics, queue_of
from edge_relay.shielded import run_to_completion
from edge_relay.stores.worker_store import WorkerStore
from edge_relay.tracing import RelayJobSpans
from edge_schemas.life.events import Finish
from edge_schemas.life.model import JobRecord, Outcome
from edge_schemas.wire.content import Content
from edge_schemas.wire.job_calls import FinishRequest

log = structlog.get_logger(__name__)


class JobFinish:
    """Writes the end of a job that its holder reports."""

    def __init__(
        self,
        records: RecordStore,
        workers: WorkerStore,
        receipt_key: ReceiptKey,
        parking: Parking,
        *,
        metrics: Metrics,
        spans: RelayJobSpans,
    ) -> None:
        self._records = records
        self._workers = workers
        self._receipt_key = receipt_key
        self._parking = parking
        self._metrics = metrics
        self._spans = spans

    async def finish(self, principal: Principal, job: str, request: FinishRequest) -> None:
        """Finish a job for its holder; a repeat changes nothing.

        Raises:
            EdgeError: The receipt or the worker is refused, or the job is in another state.
        """
        grant = None
        if request.receipt is not None:
            grant = (await self._receipt_key.open(request.receipt, job=job, worker=principal.worker)).grant
        now, result = datetime.now(UTC), request.result
        event = Finish(
            principal.worker,
            request.exit_code,
            request.reason,
            now,
            request.release,
            grant,
            result=None if result is None else Content(**result.model_dump()),
        )
        await run_to_completion(self._finish(principal, job, event, request.incarnation))

    async def _finish(self, principal: Principal, job: str, event: Finish, incarnation: int) -> None:
        async def first(before: JobRecord, after: JobRecord) -> None:
            await check_takeover(self._workers, before, principal, incarnation)
            await self._parking.keep_history(before, after)

        before, after = await self._records.change(job, event, first=first)
        if after is before:
            return
        self._spans.finished(before, after, event.at, principal.site)
        if after.outcome is not None:
            self._ended(before, after, after.outcome, event.at)
        else:
            await self._released(after, event.reason)

    def _ended(self, before: JobRecord, after: JobRecord, outcome: Outcome, at: datetime) -> None:
        self._metrics.finishes.labels(*queue_of(after), outcome.verdict).inc()
        if before.holder is not None:
            run = at - before.holder.started_at
            self._metrics.run_seconds.labels(*queue_of(after)).observe(max(0.0, run.total_seconds()))
        if outcome.result is not None:
            self._metrics.results.labels(*queue_of(after)).inc()
        log.info("job_finished", queue=after.queue, verdict=outcome.verdict, reason=outcome.reason)

    async def _released(self, after: JobRecord, reason: str | None) -> None:
        """The job's message was removed at the start: the executor, which watches records, republishes the job."""
        self._metrics.started_releases.labels(*queue_of(after)).inc()
        log.info("started_job_released", queue=after.queue, reason=reason, releases=len(after.releases))
        if after.parked is not None:
            self._parking.count(after)
            await self._parking.report(after)
