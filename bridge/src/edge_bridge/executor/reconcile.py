"""What should be against what is: every dispatch of this executor is looked at again and again until it is settled.

Messages, events and records can each be missing after a crash; a task can be taken back by a user. The comparison
finds it and does what is missing. All of it may be repeated and none of it is decided on a cached picture alone.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from edge_bridge.airflow import auxiliary_jobs, tasks
from edge_bridge.airflow.dispatch_table import DispatchTable, Entry, Report, Verb
from edge_bridge.airflow.mapping import JobMaker, JobRefused, Row, due_report, is_awaited
from edge_bridge.executor.gathering import each
from edge_bridge.executor.metrics import TeamMetrics
from edge_bridge.executor.publisher import Publisher
from edge_bridge.executor.reports import Look, Reports
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import JetStreamError
from edge_broker.jetstream.stream_info import purge, subjects_with_messages
from edge_broker.layout import ensure_consumer
from edge_broker.records import RecordStore
from edge_broker.subjects import JOBS, job_subject, parse_job_subject, queue_filter, worker_notice
from edge_schemas.life.events import Withdraw
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.errors import EdgeError
from edge_schemas.wire.jobs import AuxiliaryJob, Job

if TYPE_CHECKING:
    from airflow.executors.executor_utils import ExecutorName

log = structlog.get_logger(__name__)

Step = Callable[[Broker, RecordStore], Coroutine[None, None, None]]

SETTLE_S = 20.0
"""An event needs a loop of the scheduler to take effect, and a record a moment to be seen."""


class Reconciler:
    """Compares Airflow, records and messages for the dispatches in the ledger. Lives in the portal's loop.

    Args:
        name: Airflow's name for this executor; without it no auxiliary job is known to be ours that has no record.
    """

    def __init__(
        self,
        dispatches: DispatchTable,
        publisher: Publisher,
        reports: Reports,
        *,
        interval_s: float,
        maker: JobMaker,
        name: "ExecutorName | None",
        metrics: TeamMetrics,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._dispatches = dispatches
        self._publisher = publisher
        self._reports = reports
        self._interval_s = interval_s
        self._maker = maker
        self._name = name
        self._metrics = metrics
        self._settle_s = settle_s

    async def run(self, broker: Broker, store: RecordStore) -> None:
        """Compare at every interval, for ever; auxiliary jobs of a scheduler that is gone are looked for at once."""
        await broker.wait_connected()
        await self._try(self.adopt_auxiliary_jobs, broker, store)
        while True:
            await asyncio.sleep(self._interval_s * random.uniform(0.9, 1.1))  # noqa: S311  # jitter, nothing secret
            for step in (self.compare_tasks, self.compare_auxiliary_jobs, self.adopt_auxiliary_jobs):
                await self._try(step, broker, store)

    async def compare_tasks(self, broker: Broker, store: RecordStore) -> None:
        """One comparison of the tasks.

        Raises:
            EdgeError: NATS could not be asked; the next comparison does the rest.
            JetStreamError: NATS refused.
            sqlalchemy.exc.SQLAlchemyError: The database refused.
            TimeoutError: The database did not answer in time.
        """
        await self._compare(broker, store, self._due(of_auxiliary_jobs=False), tasks.look)

    async def compare_auxiliary_jobs(self, broker: Broker, store: RecordStore) -> None:
        """One comparison of the auxiliary jobs; raises as `compare_tasks` does."""
        await self._compare(broker, store, self._due(of_auxiliary_jobs=True), auxiliary_jobs.look)

    async def adopt_auxiliary_jobs(self, _: Broker, store: RecordStore) -> None:
        """Follow auxiliary jobs that Airflow waits for and nobody here does: Airflow itself hands over tasks only.

        One without a record never reached NATS, and is published should it stay so. Another scheduler that lives may
        follow them too. What each of them does may be done twice. Raises as `compare_tasks` does.
        """
        for auxiliary in await auxiliary_jobs.handed_out():
            if self._dispatches.get(auxiliary.id) is not None:
                continue
            record = await store.get(auxiliary.id)
            if await self._is_ours(auxiliary, record):
                self._adopt_auxiliary_job(auxiliary, record)

    async def see(self, store: RecordStore, job: str) -> None:
        """Take over the record of a job whose entry came after the watch had shown it.

        Raises:
            BrokerUnavailable: NATS could not be asked.
        """
        entry = self._dispatches.get(job)
        if entry is not None and entry.state is None:
            await self._refresh(store, entry)

    async def mend_message(self, broker: Broker, store: RecordStore, job: str) -> None:
        """Put the message of a job back if it waits and has none, or remove it if the job ended unstarted.

        Raises:
            BrokerUnavailable: NATS could not be asked.
            JetStreamError: NATS refused.
        """
        record = await store.get(job)
        if record is None:
            return
        subject = job_subject(record.team, record.queue, record.id)
        if record.state is JobState.ENDED and record.holder is None:
            await purge(broker, JOBS, subject)
        elif record.state is JobState.WAITING and not await _stored_jobs(broker, subject):
            await self._publish_again(store, job)

    async def _publish_again(self, store: RecordStore, job: str) -> None:
        """A job that had no message a moment ago: of one that was parked it goes after the record was changed."""
        record = await store.get(job)
        if record is not None and record.state is JobState.WAITING and record.parked is None and record.job is not None:
            self._publisher.publish_again(record.job)

    async def _try(self, step: Step, broker: Broker, store: RecordStore) -> None:
        try:
            await step(broker, store)
        except (EdgeError, JetStreamError, SQLAlchemyError, TimeoutError) as error:
            log.warning("reconcile_failed", step=step.__name__, error=repr(error))

    async def _compare(self, broker: Broker, store: RecordStore, entries: list[Entry], look: Look) -> None:
        before = monotonic() - self._settle_s
        unseen = [e for e in entries if e.report is None and e.state is None]
        await each(unseen, lambda e: self._refresh(store, e))
        rows = await look(entries)
        for entry in entries:
            if entry.report is not None:
                self._repeat(entry, rows.get(entry.job))
        missing = [e for e in unseen if e.report is None and e.state is None and e.since < before]
        await each(missing, lambda e: self._restore(e, rows.get(e.job)))
        waiting = [e for e in entries if e.report is None and e.state is JobState.WAITING]
        unwanted = [e for e in waiting if not is_awaited(e, rows.get(e.job))]
        await each(unwanted, lambda e: self._withdraw(broker, store, e))
        wanted = [e for e in waiting if e.parked is None and is_awaited(e, rows.get(e.job))]
        await self._check_messages(broker, store, wanted)

    def _due(self, *, of_auxiliary_jobs: bool) -> list[Entry]:
        before = monotonic() - self._settle_s
        return self._dispatches.select(
            lambda e: (e.auxiliary is not None) is of_auxiliary_jobs and self._is_due(e, before)
        )

    def _is_due(self, entry: Entry, before: float) -> bool:
        if entry.job in self._publisher:
            return False
        if entry.report is not None:
            return 0 < entry.reported_at < before
        return entry.state is JobState.WAITING or (entry.state is None and entry.since < before)

    async def _is_ours(self, auxiliary: AuxiliaryJob, record: JobRecord | None) -> bool:
        if record is not None:
            return record.auxiliary == auxiliary and record.team == self._maker.team
        return self._name is not None and await auxiliary_jobs.is_for(auxiliary, self._name)

    def _adopt_auxiliary_job(self, auxiliary: AuxiliaryJob, record: JobRecord | None) -> None:
        entry = Entry(
            key=auxiliary_jobs.key_of(auxiliary), job=auxiliary.id, dispatch=auxiliary.id, auxiliary=auxiliary
        )
        log.info(
            "auxiliary_job_adopted", job=entry.job, kind=auxiliary.kind, state=None if record is None else record.state
        )
        self._metrics.adopted("auxiliary")
        self._dispatches.add([entry])
        self._reports.outbox.append(Report(entry.key, entry.job, Verb.FOLLOW))
        self._reports.take(entry, record)

    async def _refresh(self, store: RecordStore, entry: Entry) -> None:
        """Nothing was seen of the record: the watch may be behind, so ask the leader."""
        try:
            record = await store.get(entry.job)
        except ValidationError:
            # Of another version, perhaps. It is there, so nothing is missing; the other dispatches must go on.
            log.exception("record_unreadable", job=entry.job)
            entry.since = monotonic()
            return
        if record is not None:
            self._reports.take(entry, record)

    def _repeat(self, entry: Entry, row: Row | None) -> None:
        """Airflow was told; if it still waits for this dispatch, the event was lost on its side."""
        if is_awaited(entry, row):
            log.warning("report_repeated", job=entry.job, key=str(entry.key))
            entry.reported_at = monotonic()
            self._reports.outbox.append(due_report(entry, row))
        else:
            self._reports.outbox.append(Report(entry.key, entry.job, Verb.FORGET))
            self._dispatches.drop(entry.job)

    async def _restore(self, entry: Entry, row: Row | None) -> None:
        """There is no record: the scheduler before us died before it made one, or NATS has lost it.

        What is queued has not run: Airflow is told at once when an auxiliary job was started.
        """
        if row is None or not is_awaited(entry, row):
            self._reports.outbox.append(Report(entry.key, entry.job, Verb.FORGET))
            self._dispatches.drop(entry.job)
        elif row.state == "queued":
            await self._publish_anew(entry)
        else:
            report = Report(entry.key, entry.job, Verb.FAIL, f"NATS has no record of edge job {entry.job}")
            self._reports.settle(entry, report)

    async def _publish_anew(self, entry: Entry) -> None:
        try:
            job = await self._make_anew(entry)
        except JobRefused as error:
            self._reports.refuse(entry.job, str(error))
            return
        if job is not None:
            log.warning("job_without_record_published", job=job.id, queue=job.queue)
            self._publisher.publish_missing(job)

    async def _make_anew(self, entry: Entry) -> Job | None:
        """The job of a dispatch that is still queued; raises `JobRefused`."""
        now = datetime.now(UTC)
        if entry.task is not None:
            task = await tasks.rebuild(entry.task, entry.job)
            return None if task is None else self._maker.task(task, now)
        auxiliary = None if entry.auxiliary is None else await auxiliary_jobs.rebuild(entry.auxiliary)
        return None if auxiliary is None else self._maker.auxiliary(auxiliary, now)

    async def _withdraw(self, broker: Broker, store: RecordStore, entry: Entry) -> None:
        """Airflow no longer wants this dispatch: the record now; its message goes as for every withdrawn job."""
        record = await store.get(entry.job)
        if record is None or record.state is not JobState.WAITING:
            self._reports.take(entry, record)
            return
        reason = "Airflow no longer wants this dispatch"
        before, after = await store.change(entry.job, Withdraw(reason, datetime.now(UTC)))
        if after is not before:
            self._metrics.withdrawn()
        log.info("job_withdrawn", job=entry.job, queue=after.queue, state=after.state)
        if after.holder is not None:  # it was started in this moment: its worker is to stop it
            await broker.publish(worker_notice(after.holder.worker))
        self._reports.take(entry, after)

    async def _check_messages(self, broker: Broker, store: RecordStore, waiting: list[Entry]) -> None:
        """Each waiting job has its message; a delivered one stays in the stream until the job starts."""
        queues: dict[tuple[str | None, str], set[str]] = defaultdict(set)
        for entry in waiting:
            if entry.queue is not None:
                queues[entry.team, entry.queue].add(entry.job)
        for (team, queue), jobs in queues.items():
            await ensure_consumer(broker, team, queue)
            for job in jobs - await _stored_jobs(broker, queue_filter(team, queue)):
                await self._publish_again(store, job)


async def _stored_jobs(broker: Broker, subjects: str) -> set[str]:
    """The jobs that have a message on these subjects, from the stream leader, page by page."""
    return {parse_job_subject(subject)[2] for subject in await subjects_with_messages(broker, JOBS, subjects)}
