"""Writes into a task's log why it still waits, once it has waited for half a minute.

Each pass computes the causes of a queue once, however many jobs wait in it, and writes a limited number of lines.
"""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from logging import DEBUG, WARNING

import structlog

from edge_bridge.keeper.cluster_view import ClusterView
from edge_bridge.keeper.why.desired_view import DesiredView
from edge_bridge.keeper.why.queue_facts import Queue, count_jobs, situation
from edge_bridge.keeper.why.waiting_log import WaitingLog, Written
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_schemas.admin.why import Cause, CauseCode
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.why.job import QueueView, queue_view, waiting_causes
from edge_schemas.why.wording import span
from edge_schemas.why.workers import Needs

log = structlog.get_logger(__name__)

FIRST_AFTER_S = 30.0
CHECK_EVERY_S = 2.0
AGAIN_AFTER_S = 60.0
"""A cause that comes and goes must not fill the log."""
MAX_LINES = 5
LINES_AT_ONCE = 200
"""In one pass; the jobs that have waited longest come first."""
WRITES_AT_ONCE = 16
MAX_CAUSES = 3
"""In one line."""


class WaitingLines:
    """The lines of all waiting tasks. Run `run()` in a task group; several keepers may.

    Args:
        view: The unfinished jobs and the workers.
        desired: What operators have set.
        broker: The keeper's.
        airflow: The centre's version.
        now: The wall clock.
    """

    def __init__(
        self,
        view: ClusterView,
        desired: DesiredView,
        broker: Broker,
        *,
        airflow: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._view = view
        self._desired = desired
        self._log = WaitingLog(broker)
        self._airflow = airflow
        self._now = now
        self._written: dict[str, Written] = {}
        self._failing = False

    async def run(self) -> None:
        """Check every two seconds, forever."""
        while True:
            await self.check()
            await asyncio.sleep(CHECK_EVERY_S)

    async def check(self) -> None:
        """Write the lines that are due. While not everything is known, nothing is written."""
        if not (self._view.complete and self._desired.complete and self._view.contact_possible):
            return
        now = self._now()
        before = now - timedelta(seconds=FIRST_AFTER_S)
        waiting = [
            record
            for record in self._view.unfinished()
            if record.state is JobState.WAITING and record.task is not None and record.waits_since <= before
        ]
        self._forget(waiting)
        if not waiting:
            return
        waiting.sort(key=lambda record: record.waits_since)
        due = list(self._due(waiting, now))
        await self._write_all(due, now)

    def _forget(self, waiting: list[JobRecord]) -> None:
        """Keep nothing about jobs that wait no longer."""
        if self._written:
            still = {record.id for record in waiting}
            self._written = {job: one for job, one in self._written.items() if job in still}

    def _due(self, waiting: list[JobRecord], now: datetime) -> Iterator[tuple[JobRecord, list[Cause]]]:
        """The jobs that may get a line now, with their causes."""
        relay_time = self._view.relay_time or now
        jobs, entries = count_jobs(self._view.unfinished(with_submitted=True)), self._view.workers()
        views: dict[Queue, QueueView] = {}
        number = 0
        for record in waiting:
            written = self._written.get(record.id)
            if written is not None and not _may_change(written, now):
                continue
            queue = (record.team, record.queue)
            if queue not in views:
                facts = situation(queue, entries, jobs, self._desired, relay_time)
                views[queue] = queue_view(Needs(record.queue, self._airflow), facts, relay_time)
            causes = waiting_causes(record, views[queue], relay_time)
            code = causes[0].code
            if code is CauseCode.STARTING or (written is not None and written.code == code):
                continue
            yield record, causes
            number += 1
            if number == LINES_AT_ONCE:
                return

    async def _write_all(self, due: list[tuple[JobRecord, list[Cause]]], now: datetime) -> None:
        limit = asyncio.Semaphore(WRITES_AT_ONCE)

        async def write(record: JobRecord, causes: list[Cause]) -> None:
            async with limit:
                await self._write(record, causes, now)

        try:
            async with asyncio.TaskGroup() as group:
                for record, causes in due:
                    group.create_task(write(record, causes))
        except* (BrokerUnavailable, JetStreamError) as errors:
            # The next pass tries again; a warning once, as the cause may last.
            error = str(errors.exceptions[0])
            log.log(DEBUG if self._failing else WARNING, "waiting_line_not_written", error=error)
            self._failing = True
        else:
            self._failing = False

    async def _write(self, record: JobRecord, causes: list[Cause], now: datetime) -> None:
        """Write one line, unless another keeper has written it."""
        task = record.task
        assert task is not None  # noqa: S101  # only tasks are due
        code = causes[0].code
        written = self._written.get(record.id) or await self._log.read(task, record.id)
        self._written[record.id] = written
        if written.code == code or not _may_change(written, now):
            return
        waited = span((now - record.waits_since).total_seconds())
        text = f"Waited {waited} so far: {'. '.join(one.text for one in causes[:MAX_CAUSES])}"
        stored = await self._log.write(task, record.id, written, code=code, text=text, now=now)
        if stored is None:
            del self._written[record.id]  # read it in the next pass
        else:
            self._written[record.id] = stored


def _may_change(written: Written, now: datetime) -> bool:
    """Whether another line may follow those that are written."""
    if written.at is None:
        return True
    return written.number < MAX_LINES and (now - written.at).total_seconds() >= AGAIN_AFTER_S
