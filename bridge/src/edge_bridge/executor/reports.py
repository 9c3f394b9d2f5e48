"""From watched job records to reports for Airflow, which `sync()` delivers in the scheduler's thread.

A record ends only after Airflow has accepted the task's final state, so no event can overtake it. Before an event is
handed over, the row of the task or auxiliary job is read: see `mapping.due_report`. Rows of tasks and rows of auxiliary
jobs are read separately, so that neither wait for the other.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic

import structlog
from sqlalchemy.exc import SQLAlchemyError

from edge_bridge.airflow import auxiliary_jobs, tasks
from edge_bridge.airflow.dispatch_table import STARTED, DispatchTable, Entry, Report, Verb
from edge_bridge.airflow.mapping import Row, due_report, is_awaited, report_of
from edge_bridge.executor.concurrency import SHARED_FAULTS, put_aside
from edge_bridge.executor.metrics import TeamMetrics
from edge_broker.records import RecordUnreadable, parse_record
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.jobs import AuxiliaryKind

log = structlog.get_logger(__name__)

RETRY_S = 5.0
UNREADABLE_S = 600.0
"""After this time a record that can't be read fails its job: a part of another version may have written it before."""

ReadRows = Callable[[Iterable[Entry]], Awaitable[dict[str, Row]]]
"""Reads the rows of dispatches in Airflow's database, by job."""


class Reports:
    """From records to reports. Lives in the portal's loop; `unsent` is emptied by the scheduler's thread.

    Args:
        on_message: Called with the id of a job whose message has to be checked: the job is new here or waits again
            (after a silence, a release or a redrive) and may have none, or it ended while it waited and should have
            none.
        on_gone: Called with the id of a job whose record has left the watched bucket before its end was seen: the
            record has to be read, as it was moved, or is lost.
        metrics: Count what is put aside.
    """

    def __init__(
        self,
        dispatches: DispatchTable,
        on_message: Callable[[str], None],
        on_gone: Callable[[str], None],
        metrics: TeamMetrics,
    ) -> None:
        self.unsent: deque[Report] = deque()
        self._dispatches = dispatches
        self._on_message = on_message
        self._on_gone = on_gone
        self._metrics = metrics
        self._tasks = _Due()
        self._auxiliary_jobs = _Due()

    def on_record(self, job: str, value: bytes | None) -> None:
        """A record in the bucket has changed, or has left the bucket; most of them belong to other executors."""
        entry = self._dispatches.get(job)
        if entry is None:
            return
        if value is None:
            if entry.report is None:
                self._dispatches.update(entry, None)
                self._on_gone(job)
            return
        try:
            record = parse_record(job, value)
        except RecordUnreadable as error:
            self.record_unreadable(entry, error)
            return
        self.update(entry, record)

    def record_unreadable(self, entry: Entry, error: RecordUnreadable) -> None:
        """Nothing here can act on the job. It has failed if that lasts longer than an upgrade of all parts may take.

        What is stored stays, for an operator to read.
        """
        if entry.report is not None:
            return
        now = monotonic()
        self._dispatches.update(entry, None)
        entry.since = now  # there is a record, so none is missing; the reconciler reads it again
        if entry.unreadable_since is None:
            entry.unreadable_since = now
            self._metrics.put_aside("record")
            log.error("record_unreadable", job=entry.job, fails_in_s=UNREADABLE_S)
        if now - entry.unreadable_since >= UNREADABLE_S:
            self.finish(entry, Report(entry.key, entry.job, Verb.FAIL, str(error)))

    def update(self, entry: Entry, record: JobRecord | None) -> None:
        """Act on the newest record of a dispatch of this executor."""
        entry.unreadable_since = None
        state, parked, releases = entry.state, entry.parked, entry.releases
        self._dispatches.update(entry, record)
        if record is None or entry.report is not None:
            return
        if entry.auxiliary is not None and entry.state in STARTED and state not in STARTED:
            self.unsent.append(Report(entry.key, entry.job, Verb.RUN))
        if record.outcome is not None:
            self.finish(entry, report_of(entry.key, entry.job, record.outcome))
            if record.holder is None:
                self._on_message(entry.job)
        elif record.parked is not None and parked is None:
            self.unsent.append(Report(entry.key, entry.job, Verb.NOTE, f"edge job {entry.job} parked: {record.parked}"))
        elif record.state is JobState.WAITING and (
            state is not JobState.WAITING or parked is not None or len(record.releases) > releases
        ):
            # It may have been started and released before the watch showed the start. A job that is seen for the first
            # time may be that of a dead scheduler, which has held its message back.
            self._on_message(entry.job)

    def refuse(self, job: str, reason: str) -> None:
        """A job can never be published."""
        if entry := self._dispatches.get(job):
            self.finish(entry, Report(entry.key, job, Verb.FAIL, reason))

    def finish(self, entry: Entry, report: Report) -> None:
        """A dispatch is over: report it to Airflow, once the row of the task or auxiliary job was read."""
        entry.report = report
        (self._tasks if entry.auxiliary is None else self._auxiliary_jobs).add(entry)

    async def run(self) -> None:
        """Read the rows of finished dispatches and hand their reports over, forever; those of a former run first."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hand_over_all(self._tasks, tasks.read_rows), name="reports-of-tasks")
            group.create_task(
                self._hand_over_all(self._auxiliary_jobs, auxiliary_jobs.read_rows), name="reports-of-auxiliary-jobs"
            )

    async def _hand_over_all(self, due: "_Due", read_rows: ReadRows) -> None:
        due.wake.set()
        while True:
            await due.wake.wait()
            due.wake.clear()
            batch = list(due.entries.values())
            try:
                rows = await _read_rows(batch, read_rows, self._metrics)
            except (SQLAlchemyError, TimeoutError) as error:
                log.warning("reports_wait_for_database", jobs=len(batch), error=repr(error))
            else:
                for entry in batch:
                    if await self._is_ready(entry, rows.get(entry.job)):
                        due.entries.pop(entry.job, None)
                        self._hand_over(entry, due_report(entry, rows.get(entry.job)))
            if any(entry.job in due.entries for entry in batch):
                due.wake.set()
                await asyncio.sleep(RETRY_S)

    async def _is_ready(self, entry: Entry, row: Row | None) -> bool:
        """Whether the report can be handed over; if the database rejects one result, the other reports do not wait."""
        try:
            await self._end_connection_test(entry, row)
        except (SQLAlchemyError, TimeoutError) as error:
            log.warning("reports_wait_for_database", jobs=1, error=repr(error))
            return False
        except Exception as error:  # noqa: BLE001  # reported by `put_aside`
            put_aside(self._metrics, "report", entry.job, error)
        return True

    async def _end_connection_test(self, entry: Entry, row: Row | None) -> None:
        """Airflow accepts no event for it, and a worker that never ran it can't have reported the result."""
        if (
            entry.auxiliary is None
            or entry.auxiliary.kind is not AuxiliaryKind.CONNECTION_TEST
            or not is_awaited(entry, row)
        ):
            return
        if entry.report is not None and entry.report.verb is Verb.FAIL:
            await auxiliary_jobs.fail_connection_test(entry.auxiliary, entry.report.info or "")

    def _hand_over(self, entry: Entry, report: Report) -> None:
        entry.reported_at = monotonic()
        self.unsent.append(report)
        if report.verb is Verb.FORGET:
            self._dispatches.drop(entry.job)


class _Due:
    """Finished dispatches whose rows have to be read from Airflow's database."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.wake = asyncio.Event()

    def add(self, entry: Entry) -> None:
        self.entries[entry.job] = entry
        self.wake.set()


async def _read_rows(batch: list[Entry], read_rows: ReadRows, metrics: TeamMetrics) -> dict[str, Row]:
    """The rows of a batch. If one entry can't be asked for, the others are read one by one."""
    try:
        return await read_rows(batch)
    except SHARED_FAULTS:
        raise
    except Exception as error:  # noqa: BLE001  # reported by `put_aside`
        if len(batch) == 1:
            put_aside(metrics, "report", batch[0].job, error)
            return {}
        rows: dict[str, Row] = {}
        for entry in batch:
            rows |= await _read_rows([entry], read_rows, metrics)
        return rows
