"""Up to four times a second: what does Airflow still want? What it does not is withdrawn, whoever caused it.

A look at the database sees everything that no listener tells of: marks, clears, deletes and time-outs alike.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from edge_bridge.airflow.mapping import ACTIVE_STATES
from edge_bridge.keeper.cluster_view import ClusterView
from edge_bridge.keeper.dispatch import DatabaseUnavailable, Dispatches, TaskRow
from edge_bridge.keeper.metrics import KeeperMetrics
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import JetStreamError
from edge_broker.records import RecordStore
from edge_broker.subjects import worker_notice
from edge_schemas.life.events import Withdraw
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.errors import EdgeError

log = structlog.get_logger(__name__)

SHORTEST_PERIOD_S = 0.25
LONGEST_PERIOD_S = 0.8
"""So that a mark is seen within a second, by a look that began before it and took 0.2 s too."""
SHARE_OF_TIME = 4
"""A look costs some 25 µs of processor time a task, which the gate needs too: a quarter of it may go to looks, more
only to keep the longest period."""
SHORTEST_PAUSE_S = 0.1
LOOK_TIMEOUT_S = 30.0
WITHDRAWALS_AT_ONCE = 16
WAITING_AT_ONCE = 1000
"""Of one look. A site that is away may leave tens of thousands waiting; looking at all of them each time would cost the
gate the processor, and the gate asks for itself before one of them runs."""

Rows = Mapping[str, TaskRow]
"""What Airflow says of the jobs' task instances, by job; none for those that are gone."""
OnLook = Callable[[list[JobRecord], Rows], None]
"""Takes the unfinished records of a look and their rows. Must not block."""


def period_s(took_s: float) -> float:
    """How long after the beginning of a look that took so long the next one begins."""
    return max(SHORTEST_PERIOD_S, min(LONGEST_PERIOD_S, took_s * SHARE_OF_TIME), took_s + SHORTEST_PAUSE_S)


@dataclass(frozen=True, slots=True)
class Unwanted:
    """Why Airflow no longer wants a job.

    Attributes:
        kind: One of a few, for metrics.
        reason: For people.
    """

    kind: str
    reason: str


def unwanted(record: JobRecord, row: TaskRow | None) -> Unwanted | None:
    """Why Airflow no longer wants this job, or None if it does or if the job is past stopping."""
    if record.finishing or record.accepted_state is not None or record.state is JobState.STOPPING:
        return None
    if row is None:
        return Unwanted("gone", "the task instance was cleared, retried or deleted in Airflow")
    if row.dispatch != record.id:
        return Unwanted("redispatched", "Airflow has dispatched the task instance anew")
    # A clear while running gives a new id besides RESTARTING.
    if row.state not in ACTIVE_STATES:
        return Unwanted("state", f"the task instance is {row.state or 'without a state'} in Airflow")
    return None


class Withdrawals:
    """Withdraws jobs from their workers."""

    def __init__(self, broker: Broker, records: RecordStore, metrics: KeeperMetrics) -> None:
        self._broker = broker
        self._records = records
        self._metrics = metrics

    async def withdraw(self, record: JobRecord, why: Unwanted) -> None:
        """Swap the record, and wake the worker if it is to stop something.

        The record decides: a job whose final state is on its way to Airflow, or that has ended, stays as it is. A
        waiting job's message is purged by the executor, which sees the record end.
        """
        try:
            before, after = await self._records.change(record.id, Withdraw(why.reason, datetime.now(UTC)))
        except EdgeError as error:
            # Seen again at the next look, unless the record itself is gone.
            log.warning("withdraw_failed", job=record.id, code=error.code)
            return
        except JetStreamError as error:
            # A full disk, say. Beats must go on meanwhile.
            log.warning("withdraw_refused", job=record.id, error=str(error))
            return
        if after is before:
            return
        self._metrics.withdrawn(after, why.kind)
        log.info("job_withdrawn", job=record.id, ti=_ti_id(record), state=after.state, reason=why.reason)
        if after.state is JobState.STOPPING and after.holder is not None:
            await self._broker.publish(worker_notice(after.holder.worker))


class Watch:
    """Looks at Airflow's database and withdraws what is unwanted.

    Args:
        on_look: Told of each look; the beats hang on it.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        view: ClusterView,
        dispatches: Dispatches,
        withdrawals: Withdrawals,
        on_look: OnLook,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._view = view
        self._dispatches = dispatches
        self._withdrawals = withdrawals
        self._on_look = on_look
        self._clock = clock
        self._failing = False
        self._turn = 0
        self._looked_at: float | None = None

    @property
    def looked_s_ago(self) -> float | None:
        """Seconds since the last look that worked; None if none did yet."""
        return None if self._looked_at is None else self._clock() - self._looked_at

    async def run(self) -> None:
        """Look again and again, for ever."""
        while True:
            began = self._clock()
            self._view.tick()
            try:
                async with asyncio.timeout(LOOK_TIMEOUT_S):
                    await self.look()
            except (DatabaseUnavailable, TimeoutError) as error:
                if not self._failing:
                    log.warning("watch_failing", error=str(error) or f"no answer within {LOOK_TIMEOUT_S:g} s")
                self._failing = True
            else:
                if self._failing:
                    log.info("watch_resumed")
                self._failing = False
            took_s = self._clock() - began
            await asyncio.sleep(period_s(took_s) - took_s)

    async def look(self) -> None:
        """Look once.

        Raises:
            DatabaseUnavailable: Look again.
        """
        records = self._to_look_at()
        rows = await self._rows(records)
        self._looked_at = self._clock()
        self._on_look(records, rows)
        found = [(record, unwanted(record, rows.get(record.id))) for record in records]
        limit = asyncio.Semaphore(WITHDRAWALS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for record, why in found:
                if why is not None:
                    group.create_task(self._withdraw(limit, record, why))

    async def _rows(self, records: list[JobRecord]) -> dict[str, TaskRow]:
        ti_ids = {record.id: record.task.ti_id for record in records if record.task is not None}
        rows = await self._dispatches.many(set(ti_ids.values())) if ti_ids else {}
        # Two jobs of one task instance may be unfinished: it was dispatched anew.
        return {job: rows[ti_id] for job, ti_id in ti_ids.items() if ti_id in rows}

    def _to_look_at(self) -> list[JobRecord]:
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
            await self._withdrawals.withdraw(record, why)


def _ti_id(record: JobRecord) -> str | None:
    return None if record.task is None else record.task.ti_id
