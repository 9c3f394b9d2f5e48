"""Ends jobs that waited for too long, where the rules of their queue set a limit: by default waiting is no fault.

The time goes on while an operator has paused the queue: a limit says until when a job is of use. The reason names both.

Also warns about auxiliary jobs that no worker takes: people notice a task that waits, but hardly a callback.
"""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime
from time import monotonic

import structlog

from edge_bridge.airflow.dispatch_table import STARTED, DispatchTable, Entry
from edge_bridge.airflow.queues import Queues
from edge_bridge.executor.concurrency import entry_aside, gather_bounded
from edge_bridge.executor.metrics import TeamMetrics
from edge_bridge.executor.reports import Reports
from edge_broker.connection.errors import JetStreamError
from edge_broker.records import RecordStore
from edge_schemas.life.events import Expire
from edge_schemas.life.model import JobState
from edge_schemas.wire.errors import EdgeError

log = structlog.get_logger(__name__)

CHECK_S = 1.0
AUXILIARY_PATIENCE_S = 60.0
WARN_EVERY_S = 60.0


class QueueTimeouts:
    """Checks the waiting jobs in the dispatch table every second. Lives in the portal's loop."""

    def __init__(self, dispatches: DispatchTable, reports: Reports, queues: Queues, metrics: TeamMetrics) -> None:
        self._dispatches = dispatches
        self._reports = reports
        self._queues = queues
        self._metrics = metrics
        self._warned: dict[str, float] = {}

    async def run(self, store: RecordStore) -> None:
        """Check, forever."""
        while True:
            await asyncio.sleep(CHECK_S)
            now = datetime.now(UTC)
            self.warn(now)
            if self._queues.any_times_out:
                try:
                    await self.expire(store, now)
                except (EdgeError, JetStreamError) as error:
                    log.warning("jobs_not_expired", error=repr(error))

    async def expire(self, store: RecordStore, now: datetime) -> None:
        """End the jobs that have waited for longer than their queue allows; a job that was started meanwhile continues.

        Raises:
            EdgeError: NATS could not be asked; the remaining jobs are ended next time.
            JetStreamError: NATS refused.
        """

        async def end(entry: Entry) -> None:
            reason = self._reason(entry)
            before, after = await store.change(entry.job, Expire(reason, now))
            if after is not before:
                self._metrics.expired()
            log.info("job_expired", job=entry.job, queue=after.queue, state=after.state, reason=reason)
            self._reports.update(entry, after)

        late = self._dispatches.select(lambda entry: self._is_late(entry, now))
        await gather_bounded(late, end, entry_aside(self._metrics, "expiry"))

    def warn(self, now: datetime) -> None:
        """Log for each queue, once a minute, that auxiliary jobs wait, and whether its workers may be busy."""
        ages: dict[str, list[float]] = defaultdict(list)
        for entry in self._dispatches.select(lambda e: e.auxiliary is not None and e.state is JobState.WAITING):
            if entry.queue is not None and (age := _waited_s(entry, now)) > AUXILIARY_PATIENCE_S:
                ages[entry.queue].append(age)
        for queue, waited in ages.items():
            if monotonic() - self._warned.get(queue, -WARN_EVERY_S) >= WARN_EVERY_S:
                self._warned[queue] = monotonic()
                log.warning(
                    "auxiliary_jobs_wait",
                    queue=queue,
                    auxiliary_jobs=len(waited),
                    oldest_s=round(max(waited)),
                    running=self._running(queue),
                    what="no worker has taken these callbacks or connection tests. If nothing runs from this queue "
                    "either, have a worker serve it, or change [edge_relay] callback_queue or connection_test_queue. "
                    "Otherwise check that its workers allow them: EDGE_WORKER_AUXILIARY_JOBS",
                )

    def _running(self, queue: str) -> int:
        return len(self._dispatches.select(lambda entry: entry.queue == queue and entry.state in STARTED))

    def _is_late(self, entry: Entry, now: datetime) -> bool:
        if entry.state is not JobState.WAITING or entry.queue is None or entry.report is not None:
            return False
        limit_s = self._queues.rules(entry.queue).timeout_s
        return limit_s is not None and _waited_s(entry, now) >= limit_s

    def _reason(self, entry: Entry) -> str:
        rules = self._queues.rules(entry.queue or "")
        reason = f"no worker took it from queue {entry.queue!r} within {rules.timeout_s:g} s (queue_timeout)"
        if rules.paused is not None:
            reason = f"{reason}; {rules.paused}"
        return reason if entry.parked is None else f"{reason}; it was {entry.parked}"


def _waited_s(entry: Entry, now: datetime) -> float:
    return 0.0 if entry.waits_since is None else (now - entry.waits_since).total_seconds()
