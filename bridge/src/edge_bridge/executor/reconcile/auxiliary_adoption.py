"""Takes over the auxiliary jobs of a dead scheduler: Airflow itself hands over tasks only."""

from typing import TYPE_CHECKING

import structlog

from edge_bridge.airflow import auxiliary_jobs
from edge_bridge.airflow.dispatch_table import DispatchTable, Entry, Report, Verb
from edge_bridge.executor.concurrency import SHARED_FAULTS, put_aside
from edge_bridge.executor.metrics import TeamMetrics
from edge_bridge.executor.reports import Reports
from edge_broker.records import RecordStore, RecordUnreadable
from edge_schemas.life.model import JobRecord
from edge_schemas.wire.jobs import AuxiliaryJob

if TYPE_CHECKING:
    from airflow.executors.executor_utils import ExecutorName

log = structlog.get_logger(__name__)


class AuxiliaryAdoption:
    """Finds auxiliary jobs that Airflow waits for and that this executor does not follow yet.

    Args:
        name: Airflow's name for this executor; without it an auxiliary job that has no record is never taken over.
    """

    def __init__(
        self,
        dispatches: DispatchTable,
        reports: Reports,
        *,
        team: str | None,
        name: "ExecutorName | None",
        metrics: TeamMetrics,
    ) -> None:
        self._dispatches = dispatches
        self._reports = reports
        self._team = team
        self._name = name
        self._metrics = metrics

    async def adopt(self, store: RecordStore) -> None:
        """Follow them from here on.

        An auxiliary job without a record never reached NATS; it is published if it still has none later. Another
        living scheduler may follow the same jobs: every step may be done twice.

        Raises:
            EdgeError: NATS could not be asked.
            JetStreamError: NATS refused.
            sqlalchemy.exc.SQLAlchemyError: The database refused.
            TimeoutError: The database did not answer in time.
        """
        for auxiliary in await auxiliary_jobs.handed_out():
            if self._dispatches.get(auxiliary.id) is not None:
                continue
            try:
                await self._adopt(store, auxiliary)
            except SHARED_FAULTS:
                raise
            except Exception as error:  # noqa: BLE001  # reported by `put_aside`
                put_aside(self._metrics, "reconcile", auxiliary.id, error)

    async def _adopt(self, store: RecordStore, auxiliary: AuxiliaryJob) -> None:
        record, fault = None, None
        try:
            record = await store.get(auxiliary.id)
        except RecordUnreadable as error:
            fault = error
        if await self._is_ours(auxiliary, record):
            entry = self._follow(auxiliary, record)
            if fault is not None:
                self._reports.record_unreadable(entry, fault)

    async def _is_ours(self, auxiliary: AuxiliaryJob, record: JobRecord | None) -> bool:
        if record is not None:
            return record.auxiliary == auxiliary and record.team == self._team
        return self._name is not None and await auxiliary_jobs.is_for(auxiliary, self._name)

    def _follow(self, auxiliary: AuxiliaryJob, record: JobRecord | None) -> Entry:
        entry = Entry(auxiliary_jobs.key_of(auxiliary), auxiliary.id, dispatch=auxiliary.id, auxiliary=auxiliary)
        state = None if record is None else record.state
        log.info("auxiliary_job_adopted", job=entry.job, kind=auxiliary.kind, state=state)
        self._metrics.adopted("auxiliary")
        self._dispatches.add([entry])
        self._reports.unsent.append(Report(entry.key, entry.job, Verb.FOLLOW))
        self._reports.update(entry, record)
        return entry
