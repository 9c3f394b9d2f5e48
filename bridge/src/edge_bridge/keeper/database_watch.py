"""Reads up to four times a second what Airflow still wants, and withdraws the rest, whatever the cause.

The database shows everything that no listener reports: marks, clears, deletes and time-outs alike.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

import structlog

from edge_bridge.keeper.cluster_view import ClusterView
from edge_bridge.keeper.dispatch import DatabaseUnavailable, Dispatches, TaskRow
from edge_bridge.keeper.metrics import KeeperMetrics
from edge_bridge.keeper.withdrawals import Unwanted, Withdrawals, unwanted
from edge_schemas.life.model import JobRecord, JobState

log = structlog.get_logger(__name__)

SHORTEST_PERIOD_S = 0.25
LONGEST_PERIOD_S = 0.8
"""So that a mark is seen within a second, even if the check began before the mark and took 0.2 s."""
SHARE_OF_TIME = 4
"""A check costs some 25 µs of processor time for each task, which the gate needs too: checks may take a quarter of the
time, and more only to keep the longest period."""
SHORTEST_PAUSE_S = 0.1
CHECK_TIMEOUT_S = 30.0
WITHDRAWALS_AT_ONCE = 16
WAITING_AT_ONCE = 1000
"""In one check. An offline site may leave tens of thousands of jobs waiting; to check all of them each time would
cost the gate the processor, and the gate checks a job itself before the job runs."""

Rows = Mapping[str, TaskRow]
"""The rows of the jobs' task instances, by job; none for task instances that are gone."""
OnChecked = Callable[[list[JobRecord], Rows], None]
"""Gets the unfinished records of a check and their rows. Must not block."""


def period_s(took_s: float) -> float:
    """The time from the start of a check that took so long to the start of the next one."""
    return max(SHORTEST_PERIOD_S, min(LONGEST_PERIOD_S, took_s * SHARE_OF_TIME), took_s + SHORTEST_PAUSE_S)


class DatabaseWatch:
    """Checks Airflow's database and withdraws jobs that are no longer wanted.

    Args:
        on_checked: Called in each check; the heartbeats depend on it.
        metrics: Count what fails for one job only.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        view: ClusterView,
        dispatches: Dispatches,
        withdrawals: Withdrawals,
        on_checked: OnChecked,
        *,
        metrics: KeeperMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._view = view
        self._dispatches = dispatches
        self._withdrawals = withdrawals
        self._on_checked = on_checked
        self._metrics = metrics
        self._clock = clock
        self._failing = False
        self._turn = 0
        self._checked_at: float | None = None

    @property
    def checked_s_ago(self) -> float | None:
        """Seconds since the database last answered; None before its first answer."""
        return None if self._checked_at is None else self._clock() - self._checked_at

    async def run(self) -> None:
        """Check again and again, forever."""
        while True:
            began = self._clock()
            self._view.tick()
            try:
                async with asyncio.timeout(CHECK_TIMEOUT_S):
                    await self.check()
            except (DatabaseUnavailable, TimeoutError) as error:
                if not self._failing:
                    error_text = str(error) or f"no answer within {CHECK_TIMEOUT_S:g} s"
                    log.warning("database_watch_failing", error=error_text)
                self._failing = True
            else:
                if self._failing:
                    log.info("database_watch_resumed")
                self._failing = False
            took_s = self._clock() - began
            await asyncio.sleep(period_s(took_s) - took_s)

    async def check(self) -> None:
        """Check once.

        Raises:
            DatabaseUnavailable: Check again later.
        """
        records = self._to_check()
        rows = await self._rows(records)
        self._checked_at = self._clock()
        self._on_checked(records, rows)
        found = [(record, unwanted(record, rows.get(record.id))) for record in records]
        limit = asyncio.Semaphore(WITHDRAWALS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for record, why in found:
                if why is not None:
                    group.create_task(self._withdraw(limit, record, why))

    async def _rows(self, records: list[JobRecord]) -> dict[str, TaskRow]:
        ti_ids = {record.id: record.task.ti_id for record in records if record.task is not None}
        rows = await self._dispatches.many(set(ti_ids.values())) if ti_ids else {}
        # Two jobs of one task instance may be unfinished: it was dispatched again.
        return {job: rows[ti_id] for job, ti_id in ti_ids.items() if ti_id in rows}

    def _to_check(self) -> list[JobRecord]:
        """Started tasks, and as many waiting tasks as one query may hold, in turns. Auxiliary jobs have no row."""
        records = [record for record in self._view.unfinished() if record.task is not None]
        waiting = [record for record in records if record.state is JobState.WAITING]
        if len(waiting) <= WAITING_AT_ONCE:
            return records
        begin = self._turn % len(waiting)
        self._turn = begin + WAITING_AT_ONCE
        turn = (waiting[begin:] + waiting[:begin])[:WAITING_AT_ONCE]
        return [record for record in records if record.state is not JobState.WAITING] + turn

    async def _withdraw(self, limit: asyncio.Semaphore, record: JobRecord, why: Unwanted) -> None:
        async with limit:
            try:
                await self._withdrawals.withdraw(record, why)
            except Exception:
                # A fault of ours. The checks of the other jobs, and with them their heartbeats, must continue.
                log.exception("job_put_aside", step="withdrawal", job=record.id)
                self._metrics.put_aside("withdrawal")
