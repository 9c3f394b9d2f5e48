"""Gives up the jobs of workers that are silent for too long or came back without them, so that they can run elsewhere.

The worker freezes a job before the tolerance is over (unless `on_silence` is `continue`), so the first copy stands
still before a second can start. A worker that came back without the job no longer has it.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Protocol

import structlog

from edge_broker import parked_jobs
from edge_broker.audit import Audit
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_broker.records import RecordStore
from edge_broker.subjects import worker_notice
from edge_schemas.admin.audit import TargetKind
from edge_schemas.life.agents import has_taken_over
from edge_schemas.life.events import GiveUp
from edge_schemas.life.model import Holder, JobRecord, JobState
from edge_schemas.wire.errors import EdgeError
from edge_schemas.wire.offline import OfflinePolicy
from edge_schemas.wire.worker_entry import WorkerEntry

log = structlog.get_logger(__name__)

CHECK_EVERY_S = 1.0
AT_ONCE = 16
_HELD = frozenset({JobState.RUNNING, JobState.STOPPING})


class HeldJob(Protocol):
    """What has to be known of a job: its record, or a part of it."""

    @property
    def id(self) -> str:
        """The job's."""

    @property
    def state(self) -> JobState:
        """See `JobRecord`."""

    @property
    def holder(self) -> Holder | None:
        """See `JobRecord`."""

    @property
    def offline(self) -> OfflinePolicy:
        """See `JobRecord`."""


class ContactView(Protocol):
    """The unfinished jobs that are looked after here, and the contact with their holders. It may be behind."""

    def unfinished(self) -> Iterable[HeldJob]:
        """The jobs; those without a holder are of no interest."""

    def worker(self, name: str) -> WorkerEntry | None:
        """The last known poll of a worker."""

    def silent_for(self, record: HeldJob) -> float:
        """Seconds without a poll of the holder that names the job, as far as they count; see `ContactClock`."""

    @property
    def relay_time(self) -> datetime | None:
        """See `due_give_up`."""

    async def refresh_worker(self, worker: str) -> None:
        """Read the worker's entry from the stream leader.

        Raises:
            BrokerUnavailable: Try again later.
        """


class GiveUpReports(Protocol):
    """Counts and traces what was done."""

    def given_up(self, before: JobRecord, after: JobRecord, event: GiveUp) -> None:
        """A job was given up here, not by another process."""

    def put_aside(self, step: str) -> None:
        """A job could not be handled, because of a fault."""


def due_give_up(
    record: HeldJob,
    entry: WorkerEntry | None,
    *,
    silent_for_s: float,
    relay_time: datetime | None,
    now: datetime,
) -> GiveUp | None:
    """The event that gives this job up, or None if the job continues.

    Args:
        record: Of any job.
        entry: The last poll of its holder, if one is known.
        silent_for_s: How long no poll of the holder has named it, by the clock that stands still in outages.
        relay_time: By the relays' clocks, which dated the entry; it decides whether the holder's agent has replaced all
            earlier ones. None if no relay's clock is known: then this is not decided.
        now: For the event.
    """
    holder = record.holder
    if record.state not in _HELD or holder is None:
        return None
    if entry is not None and _came_back_without(entry, record.id, holder) and _has_taken_over(entry, relay_time):
        agent = entry.agent
        reason = f"worker {holder.worker} came back without the job: its agent was restarted"
        return GiveUp(reason, now, lacking_incarnation=agent.incarnation, holder=holder)
    tolerance_s = record.offline.tolerance_s
    if silent_for_s > tolerance_s:
        reason = (
            f"no contact with worker {holder.worker} about this job for {silent_for_s:.0f} s "
            f"(offline tolerance {tolerance_s:g} s)"
        )
        return GiveUp(reason, now, holder=holder)
    return None


def _came_back_without(entry: WorkerEntry, job: str, holder: Holder) -> bool:
    return holder.incarnation < entry.agent.incarnation and all(report.id != job for report in entry.jobs)


def _has_taken_over(entry: WorkerEntry, relay_time: datetime | None) -> bool:
    return relay_time is not None and has_taken_over(entry, relay_time)


class GiveUps:
    """Gives up jobs that are lost by the view; the worker's entry and the record decide. Run `run()`.

    Any number of processes may do this at once: the record changes once.
    """

    def __init__(
        self, view: ContactView, broker: Broker, records: RecordStore, audit: Audit, reports: GiveUpReports
    ) -> None:
        self._view = view
        self._broker = broker
        self._records = records
        self._audit = audit
        self._reports = reports
        self._limit = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Check once a second, forever."""
        while True:
            await self.check()
            await asyncio.sleep(CHECK_EVERY_S)

    async def check(self) -> None:
        """Give up what is lost by now. Jobs that can't be given up because NATS is unreachable are checked again."""
        async with asyncio.TaskGroup() as group:
            for worker, records in self._held().items():
                if any(self._due(worker, record) for record in records):
                    group.create_task(self._give_up_all(worker, records))

    def _held(self) -> dict[str, list[HeldJob]]:
        held: dict[str, list[HeldJob]] = defaultdict(list)
        for record in self._view.unfinished():
            if record.holder is not None:
                held[record.holder.worker].append(record)
        return held

    def _due(self, worker: str, record: HeldJob) -> GiveUp | None:
        entry, silent_for_s = self._view.worker(worker), self._view.silent_for(record)
        relay_time = self._view.relay_time
        return due_give_up(record, entry, silent_for_s=silent_for_s, relay_time=relay_time, now=datetime.now(UTC))

    async def _give_up_all(self, worker: str, records: list[HeldJob]) -> None:
        """Check again by the worker's entry as the leader has it: the view may be behind.

        Each job is checked separately: many take seconds, and the worker may poll meanwhile.
        """
        try:
            async with self._limit:
                await self._view.refresh_worker(worker)
            for record in records:
                async with self._limit:
                    await self._give_up_one(worker, record)
        except (BrokerUnavailable, JetStreamError) as error:
            log.warning("give_up_postponed", worker=worker, jobs=len(records), error=str(error))

    async def _give_up_one(self, worker: str, record: HeldJob) -> None:
        try:
            if (event := self._due(worker, record)) is not None:
                await self._give_up(worker, record, event)
        except (BrokerUnavailable, JetStreamError):
            raise
        except Exception:
            # A fault of ours. The other jobs and the other loops must not suffer from it.
            log.exception("job_put_aside", step="give_up", job=record.id)
            self._reports.put_aside("give_up")

    async def _give_up(self, worker: str, record: HeldJob, event: GiveUp) -> None:
        try:
            before, after = await self._records.change(
                record.id, event, first=lambda _, after: parked_jobs.keep_history(self._broker, after)
            )
        except BrokerUnavailable:
            raise
        except EdgeError as error:
            # Another process was faster: the job waits again, or has ended long ago and the view is behind.
            log.debug("give_up_outdated", job=record.id, code=error.code)
            return
        if after is before:
            return
        self._reports.given_up(before, after, event)
        outcome = None if after.outcome is None else after.outcome.verdict.value
        ti_id = None if after.task is None else after.task.ti_id
        facts = {"job": after.id, "ti": ti_id, "queue": after.queue, "worker": worker, "reason": event.reason}
        log.warning("job_given_up", **facts, state=after.state.value, verdict=outcome)
        await self._audit.record(
            "job-given-up",
            TargetKind.JOB,
            after.id,
            queue=after.queue,
            reason=event.reason,
            facts={"ti": ti_id, "worker": worker, "state": after.state.value, "verdict": outcome},
        )
        if after.parked is not None:
            log.warning("job_parked", job=after.id, queue=after.queue, reason=after.parked)
            await self._audit.record("job-parked", TargetKind.JOB, after.id, queue=after.queue, reason=after.parked)
        # A parked poll of the worker is answered at once.
        await self._broker.publish(worker_notice(worker))
