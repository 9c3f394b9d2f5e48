"""Job records, watched, and what follows for Airflow: handed to `sync()` in the scheduler's thread.

A record ends only after Airflow has accepted the task's final state, so no event can overtake it. Before an event is
handed over, the task is looked up: see `mapping.due_report`.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from edge_bridge import tasks
from edge_bridge.ledger import STARTED, Entry, Ledger, Report, Verb
from edge_bridge.mapping import due_report, report_of
from edge_schemas.records import JobRecord, JobState

log = structlog.get_logger(__name__)

RETRY_S = 5.0


class Reports:
    """From records to reports. Lives in the portal's loop; `outbox` is emptied by the scheduler's thread.

    Args:
        on_message: Called with the id of a job whose message needs a look: it waits anew (after a silence, or redriven)
            and has none, or it ended while it waited and should have none.
    """

    def __init__(self, ledger: Ledger, on_message: Callable[[str], None]) -> None:
        self.outbox: deque[Report] = deque()
        self._ledger = ledger
        self._on_message = on_message
        self._due: dict[str, Entry] = {}
        self._wake = asyncio.Event()

    def watch(self, job: str, value: bytes | None) -> None:
        """A record of the bucket has changed; nearly all that come by are other executors' or long ended."""
        entry = self._ledger.get(job)
        if entry is None:
            return
        try:
            record = None if value is None else JobRecord.model_validate_json(value)
        except ValidationError:
            log.exception("record_unreadable", job=job)
            return
        self.take(entry, record)

    def take(self, entry: Entry, record: JobRecord | None) -> None:
        """Act on the newest record of a job of ours."""
        state, parked = entry.state, entry.parked
        self._ledger.take(entry, record)
        if record is None or entry.report is not None:
            return
        if record.outcome is not None:
            self.settle(entry, report_of(entry.key, entry.job, record.outcome))
            if record.holder is None:
                self._on_message(entry.job)
        elif record.parked is not None and parked is None:
            self.outbox.append(Report(entry.key, entry.job, Verb.NOTE, f"edge job {entry.job} parked: {record.parked}"))
        elif record.state is JobState.WAITING and (state in STARTED or parked is not None):
            self._on_message(entry.job)

    def refuse(self, job: str, reason: str) -> None:
        """A job can never be published."""
        if entry := self._ledger.get(job):
            self.settle(entry, Report(entry.key, job, Verb.FAIL, reason))

    def settle(self, entry: Entry, report: Report) -> None:
        """A dispatch is over: tell Airflow, once the task was looked up."""
        entry.report = report
        self._due[entry.job] = entry
        self._wake.set()

    async def run(self) -> None:
        """Look up the tasks of ended jobs and hand their reports over, for ever. What a former run left comes first."""
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch = list(self._due.values())
            try:
                rows = await tasks.look(entry.task for entry in batch)
            except (SQLAlchemyError, TimeoutError) as error:
                log.warning("reports_wait_for_database", jobs=len(batch), error=repr(error))
                self._wake.set()
                await asyncio.sleep(RETRY_S)
                continue
            for entry in batch:
                self._due.pop(entry.job, None)
                self._hand_over(entry, due_report(entry, rows.get(tasks.name_of(entry.task))))

    def _hand_over(self, entry: Entry, report: Report) -> None:
        entry.reported_at = monotonic()
        self.outbox.append(report)
        if report.verb is Verb.FORGET:
            self._ledger.drop(entry.job)
