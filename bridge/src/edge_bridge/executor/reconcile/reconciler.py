"""Compares what should be with what is: every dispatch of this executor is checked again and again until it is over.

After a crash, messages, events and records can each be missing; a user can take back a task. The comparison finds it
and does what is missing. All of it may be repeated, and nothing is decided on a cached record alone.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from edge_bridge.airflow import auxiliary_jobs, tasks
from edge_bridge.airflow.dispatch_table import DispatchTable, Entry, Report, Verb
from edge_bridge.airflow.mapping import JobMaker, Row, due_report, is_awaited
from edge_bridge.executor.concurrency import entry_aside, gather_bounded
from edge_bridge.executor.metrics import TeamMetrics
from edge_bridge.executor.publisher import Publisher
from edge_bridge.executor.reconcile.auxiliary_adoption import AuxiliaryAdoption
from edge_bridge.executor.reconcile.messages import MessageRepair
from edge_bridge.executor.reconcile.missing_records import MissingRecords
from edge_bridge.executor.reconcile.records import RecordReader
from edge_bridge.executor.reports import ReadRows, Reports
from edge_bridge.signing.trust import CentreTrust
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import JetStreamError
from edge_broker.records import RecordStore
from edge_broker.subjects import worker_notice
from edge_schemas.life.events import Withdraw
from edge_schemas.life.model import JobState
from edge_schemas.wire.errors import EdgeError

if TYPE_CHECKING:
    from airflow.executors.executor_utils import ExecutorName

log = structlog.get_logger(__name__)

Step = Callable[[Broker, RecordStore], Coroutine[None, None, None]]

SETTLE_S = 20.0
"""An event needs a loop of the scheduler to take effect, and a record a moment to be seen."""


class Reconciler:
    """Compares Airflow, records and messages for the dispatches in the table. Lives in the portal's loop.

    Args:
        name: Airflow's name for this executor; see `AuxiliaryAdoption`.
        trust: Checks jobs before they are republished.

    Attributes:
        messages: Repairs the messages of single jobs, too.
        records: Reads the records of single jobs, too.
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
        trust: CentreTrust,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._dispatches = dispatches
        self._publisher = publisher
        self._reports = reports
        self._interval_s = interval_s
        self._metrics = metrics
        self._settle_s = settle_s
        self.messages = MessageRepair(dispatches, publisher, reports, metrics, trust)
        self.records = RecordReader(dispatches, reports)
        self._missing = MissingRecords(dispatches, publisher, reports, maker)
        self._auxiliary = AuxiliaryAdoption(dispatches, reports, team=maker.team, name=name, metrics=metrics)

    async def run(self, broker: Broker, store: RecordStore) -> None:
        """Compare at every interval, forever; auxiliary jobs of a dead scheduler are taken over at once."""
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
        await self._compare(broker, store, self._due(of_auxiliary_jobs=False), tasks.read_rows)

    async def compare_auxiliary_jobs(self, broker: Broker, store: RecordStore) -> None:
        """One comparison of the auxiliary jobs; raises as `compare_tasks` does."""
        await self._compare(broker, store, self._due(of_auxiliary_jobs=True), auxiliary_jobs.read_rows)

    async def adopt_auxiliary_jobs(self, _: Broker, store: RecordStore) -> None:
        """Take over the auxiliary jobs of a dead scheduler; raises as `compare_tasks` does."""
        await self._auxiliary.adopt(store)

    async def _try(self, step: Step, broker: Broker, store: RecordStore) -> None:
        try:
            await step(broker, store)
        except (EdgeError, JetStreamError, SQLAlchemyError, TimeoutError) as error:
            log.warning("reconcile_failed", step=step.__name__, error=repr(error))
        except Exception:
            # A fault of ours. The publisher and the reports, which run in the same group, must not restart for it.
            log.exception("reconcile_step_broken", step=step.__name__)

    async def _compare(self, broker: Broker, store: RecordStore, entries: list[Entry], read_rows: ReadRows) -> None:
        before = monotonic() - self._settle_s
        aside = entry_aside(self._metrics, "reconcile")
        unseen = [e for e in entries if e.report is None and e.state is None]
        await gather_bounded(unseen, lambda e: self.records.read(store, e), aside)
        rows = await read_rows(entries)
        for entry in entries:
            if entry.report is not None:
                self._repeat_report(entry, rows.get(entry.job))
        missing = [e for e in unseen if e.report is None and e.state is None and e.since < before]
        await gather_bounded(missing, lambda e: self._missing.restore(e, rows.get(e.job)), aside)
        waiting = [e for e in entries if e.report is None and e.state is JobState.WAITING]
        unwanted = [e for e in waiting if not is_awaited(e, rows.get(e.job))]
        await gather_bounded(unwanted, lambda e: self._withdraw(broker, store, e), aside)
        published = [e for e in waiting if e.is_waiting and e.job not in self._publisher]
        wanted = [e for e in published if is_awaited(e, rows.get(e.job))]
        await self.messages.repair_all(broker, store, wanted)

    def _due(self, *, of_auxiliary_jobs: bool) -> list[Entry]:
        before = monotonic() - self._settle_s
        return self._dispatches.select(
            lambda e: (e.auxiliary is not None) is of_auxiliary_jobs and self._is_due(e, before)
        )

    def _is_due(self, entry: Entry, before: float) -> bool:
        if entry.job in self._publisher and entry.state is None:
            return False
        if entry.report is not None:
            return 0 < entry.reported_at < before
        return entry.state is JobState.WAITING or (entry.state is None and entry.since < before)

    def _repeat_report(self, entry: Entry, row: Row | None) -> None:
        """A report was handed over; if Airflow still waits for this dispatch, the event was lost in Airflow."""
        if is_awaited(entry, row):
            log.warning("report_repeated", job=entry.job, key=str(entry.key))
            entry.reported_at = monotonic()
            self._reports.unsent.append(due_report(entry, row))
        else:
            self._reports.unsent.append(Report(entry.key, entry.job, Verb.FORGET))
            self._dispatches.drop(entry.job)

    async def _withdraw(self, broker: Broker, store: RecordStore, entry: Entry) -> None:
        """Airflow no longer wants this dispatch: withdraw the record; its message is removed after it ended."""
        record = await store.get(entry.job)
        if record is None or record.state is not JobState.WAITING:
            self._reports.update(entry, record)
            return
        reason = "Airflow no longer wants this dispatch"
        before, after = await store.change(entry.job, Withdraw(reason, datetime.now(UTC)))
        if after is not before:
            self._metrics.withdrawn()
        log.info("job_withdrawn", job=entry.job, queue=after.queue, state=after.state)
        if after.holder is not None:  # it was started at this moment: its worker has to stop it
            await broker.publish(worker_notice(after.holder.worker))
        self._reports.update(entry, after)
