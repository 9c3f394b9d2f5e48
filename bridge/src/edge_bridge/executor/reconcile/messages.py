"""Each waiting job has exactly one message in the stream: publishes missing messages again, removes needless ones."""

from collections import defaultdict
from collections.abc import Iterable

import structlog

from edge_bridge.airflow.dispatch_table import DispatchTable, Entry
from edge_bridge.executor.concurrency import put_aside
from edge_bridge.executor.metrics import TeamMetrics
from edge_bridge.executor.publisher import Publisher
from edge_bridge.executor.reports import Reports
from edge_bridge.signing.trust import CentreTrust, JobNotSigned
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import JetStreamError
from edge_broker.jetstream.stream_info import purge
from edge_broker.layout import ensure_consumer
from edge_broker.records import RecordStore, RecordUnreadable
from edge_broker.subjects import JOBS, job_subject, kind_filter
from edge_schemas.life.model import JobState
from edge_service.signing.ed25519 import KeyUnusable
from edge_upkeep.messages import Line, jobs_with_message

log = structlog.get_logger(__name__)


class MessageRepair:
    """Compares jobs with the messages in the stream. A delivered message stays in the stream until its job starts."""

    def __init__(
        self,
        dispatches: DispatchTable,
        publisher: Publisher,
        reports: Reports,
        metrics: TeamMetrics,
        trust: CentreTrust,
    ) -> None:
        self._dispatches = dispatches
        self._publisher = publisher
        self._reports = reports
        self._metrics = metrics
        self._trust = trust

    async def repair(self, broker: Broker, store: RecordStore, job: str) -> None:
        """Publish the message of a waiting job again if it is missing, or remove it if the job ended unstarted.

        Raises:
            BrokerUnavailable: NATS could not be asked.
            JetStreamError: NATS refused.
        """
        if self._is_waiting(job) and job in self._publisher:
            return
        record = await store.get(job)
        if record is None:
            return
        subject = job_subject(record.team, record.queue, record.kind, record.id)
        if record.state is JobState.ENDED and record.holder is None:
            await purge(broker, JOBS, subject)
        elif record.state is JobState.WAITING:
            if not await jobs_with_message(broker, subject):
                await self._republish(store, job)
            elif record.job is not None and self._is_waiting(job):
                self._publisher.queue.has_message(record.job, was_released=bool(record.releases))

    async def repair_all(self, broker: Broker, store: RecordStore, waiting: Iterable[Entry]) -> None:
        """Publish the missing messages of waiting jobs again; raises as `repair` does."""
        lines: dict[Line, set[str]] = defaultdict(set)
        for entry in waiting:
            if entry.queue is not None:
                lines[entry.team, entry.queue, entry.kind].add(entry.job)
        for line, jobs in lines.items():
            try:
                await self._repair_line(broker, store, line, jobs)
            except JetStreamError as error:
                # It may concern this queue only: the jobs of the others must not wait.
                log.warning("queue_not_repaired", queue=line[1], team=line[0], kind=line[2], error=str(error))

    async def _repair_line(self, broker: Broker, store: RecordStore, line: Line, jobs: set[str]) -> None:
        await ensure_consumer(broker, *line)
        for job in jobs - await jobs_with_message(broker, kind_filter(*line)):
            try:
                await self._republish(store, job)
            except (RecordUnreadable, KeyUnusable) as error:
                put_aside(self._metrics, "message", job, error)

    async def _republish(self, store: RecordStore, job: str) -> None:
        """For a job that had no message a moment ago. The record is read again: a parked job has no message."""
        record = await store.get(job)
        is_waiting = record is not None and record.state is JobState.WAITING and record.parked is None
        if record is None or not is_waiting or not self._is_waiting(job):
            return
        try:
            signed = await self._trust.job_of(record)
        except JobNotSigned as error:
            self._refuse(job, f"its record can't be used: {error}")
            return
        if signed is not None:
            self._publisher.republish(signed)

    def _refuse(self, job: str, reason: str) -> None:
        """Another part than the executor wrote the record, or it is from before jobs were signed: the task fails."""
        log.error("job_not_signed", job=job, reason=reason)
        self._reports.refuse(job, reason)

    def _is_waiting(self, job: str) -> bool:
        """Whether the job is known to wait here, so that its start will be noticed."""
        entry = self._dispatches.get(job)
        return entry is not None and entry.is_waiting
