"""Dispatches without a record: published again, failed, or forgotten, as Airflow's database shows them."""

from datetime import UTC, datetime

import structlog

from edge_bridge.airflow import auxiliary_jobs, tasks
from edge_bridge.airflow.dispatch_table import DispatchTable, Entry, Report, Verb
from edge_bridge.airflow.mapping import JobMaker, JobRefused, Row, is_awaited
from edge_bridge.executor.publisher import Publisher
from edge_bridge.executor.reports import Reports
from edge_schemas.wire.jobs import Job

log = structlog.get_logger(__name__)


class MissingRecords:
    """Handles dispatches without a record: the former scheduler died before it made one, or NATS has lost it."""

    def __init__(self, dispatches: DispatchTable, publisher: Publisher, reports: Reports, maker: JobMaker) -> None:
        self._dispatches = dispatches
        self._publisher = publisher
        self._reports = reports
        self._maker = maker

    async def restore(self, entry: Entry, row: Row | None) -> None:
        """Handle one dispatch.

        What is queued has not run: Airflow gets a report as soon as an auxiliary job was started.

        Raises:
            TimeoutError: The database did not answer in time.
            sqlalchemy.exc.SQLAlchemyError: The database refused.
        """
        if row is None or not is_awaited(entry, row):
            self._reports.unsent.append(Report(entry.key, entry.job, Verb.FORGET))
            self._dispatches.drop(entry.job)
        elif row.state == "queued":
            await self._publish(entry)
        else:
            report = Report(entry.key, entry.job, Verb.FAIL, f"NATS has no record of edge job {entry.job}")
            self._reports.finish(entry, report)

    async def _publish(self, entry: Entry) -> None:
        try:
            job = await self._rebuild(entry)
        except JobRefused as error:
            self._reports.refuse(entry.job, str(error))
            return
        if job is not None:
            log.warning("job_without_record_published", job=job.id, queue=job.queue)
            self._publisher.publish_missing(job)

    async def _rebuild(self, entry: Entry) -> Job | None:
        """The job of a dispatch that is still queued; raises `JobRefused`."""
        now = datetime.now(UTC)
        if entry.task is not None:
            task = await tasks.rebuild(entry.task, entry.job)
            return None if task is None else self._maker.task(task, now)
        auxiliary = None if entry.auxiliary is None else await auxiliary_jobs.rebuild(entry.auxiliary)
        return None if auxiliary is None else self._maker.auxiliary(auxiliary, now)
