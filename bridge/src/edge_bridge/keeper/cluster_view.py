"""The unfinished jobs and the workers' contact, kept in memory. While NATS is unreachable the last view stays."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import structlog
from pydantic import ValidationError

from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.connection.subscriptions import Message
from edge_broker.record_mover import RecordMover
from edge_broker.records import RecordUnreadable, parse_record
from edge_broker.subjects import RECORDS_BUCKET, RELAY_BEATS, WORKERS_BUCKET
from edge_broker.watched_bucket import OnComplete, WatchedBucket
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.worker_entry import RelayBeat, WorkerEntry
from edge_upkeep.contact.contact_clock import ContactClock, Hold
from edge_upkeep.contact.worker_polls import WorkerPolls, read_poll
from edge_upkeep.give_up import HeldJob

log = structlog.get_logger(__name__)


class ClusterView:
    """What the keeper knows without a query. It may be behind: every decision is made on the record itself.

    Args:
        broker: Connected or not.
        mover: Gets the ids of ended jobs.
        put_aside: Counts what can't be read, a `record` or an `entry`.
        clock: Monotonic seconds.
        on_complete: Called each time that both buckets are listed, or that both watches continue after a cut.
    """

    def __init__(
        self,
        broker: Broker,
        mover: RecordMover,
        put_aside: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        on_complete: OnComplete = lambda: None,
    ) -> None:
        self._broker = broker
        self._on_complete = on_complete
        self._mover = mover
        self._put_aside = put_aside
        self._clock = clock
        self._workers_bucket = Bucket(broker, WORKERS_BUCKET)
        self._was_listed = False
        self._watched_records = WatchedBucket(broker, RECORDS_BUCKET, self._update_record, on_complete=self._on_listed)
        self._watched_workers = WatchedBucket(broker, WORKERS_BUCKET, self._update_worker, on_complete=self._on_listed)
        self._records: dict[str, JobRecord] = {}
        self._workers: dict[str, WorkerEntry] = {}
        self._contact = ContactClock()
        self._polls = WorkerPolls(self._contact)
        self._logged_contact = False

    async def run(self) -> None:
        """Follow both buckets and the relay beats, forever."""
        await self._broker.subscribe(RELAY_BEATS, self._on_relay_beat)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watched_records.run(), name="keeper-records")
            group.create_task(self._watched_workers.run(), name="keeper-workers")

    @property
    def complete(self) -> bool:
        """Both buckets have been listed since the connection was made."""
        return self._watched_records.complete.is_set() and self._watched_workers.complete.is_set()

    def unfinished(self, *, with_submitted: bool = False) -> list[JobRecord]:
        """Airflow's jobs that have not ended, without the data that only a worker needs; relays look after others."""
        return [record for record in self._records.values() if with_submitted or record.terms is None]

    def worker(self, name: str) -> WorkerEntry | None:
        """The last known poll of a worker."""
        return self._workers.get(name)

    def workers(self) -> list[WorkerEntry]:
        """The last known polls of all workers."""
        return list(self._workers.values())

    def silent_for(self, record: HeldJob) -> float:
        """Seconds without a poll of the holder that names the job, as far as they count; see `ContactClock`.

        A worker may poll and not have the job: of two agents with one credential one may have died. Another worker
        that names the job, by mistake or to harm, does not count.
        """
        self.tick()
        worker = "" if record.holder is None else record.holder.worker
        return self._contact.silent_for((worker, record.id), self._clock())

    @property
    def relay_time(self) -> datetime | None:
        """What the slowest clock of the relays shows now, for times that relays have stored; None if none is known."""
        return self._contact.relays.earliest(self._clock())

    @property
    def clock_differences_s(self) -> dict[str, float]:
        """The clock of each relay that sends beats minus this machine's."""
        return self._contact.relays.differences_s(self._clock(), datetime.now(UTC))

    @property
    def contact_possible(self) -> bool:
        """NATS and a relay are reachable; otherwise no silence is counted and no job is given up."""
        return self._contact.is_possible

    def tick(self) -> None:
        """Check whether NATS is connected; call it at least once a second."""
        self._contact.tick(self._clock(), connected=self._broker.connected)
        if self._logged_contact is not self._contact.is_possible:
            self._logged_contact = self._contact.is_possible
            if self._contact.is_possible:
                log.info("contact_possible")
            else:
                log.warning("contact_impossible", hint="NATS or every relay is unreachable: no job is given up now")

    async def refresh_worker(self, worker: str) -> None:
        """Read the worker's entry from the stream leader: a watch may lose its consumer without notice.

        Raises:
            BrokerUnavailable: Try again later.
        """
        self._update_worker(worker, (await self._workers_bucket.get(worker)).value)

    def _on_listed(self) -> None:
        self._was_listed |= self._watched_records.complete.is_set()
        if self.complete:
            self._on_complete()

    def _update_record(self, key: str, value: bytes | None) -> None:
        record = None if value is None else _parse_record(key, value, self._put_aside)
        known = self._records.get(key)
        if record is None or record.state is JobState.ENDED:
            self._records.pop(key, None)
            self._forget_holder(key, known)
            _note_end(self._mover, key, record)
            return
        if record.holder is None or not _is_held_by(known, record.holder.worker):
            self._forget_holder(key, known)
        self._records[key] = record.model_copy(update={"job": None, "last_write": None})
        if record.holder is not None and (known is None or known.holder != record.holder):
            self._record_start((record.holder.worker, key))

    def _record_start(self, hold: Hold) -> None:
        """A call of the worker made it the holder, and its next poll names the job."""
        if self._watched_records.complete.is_set():
            self._contact.record_contact(hold, self._clock())
        elif self._was_listed:
            self._contact.record_undated_contact(hold, self._clock())
        # Otherwise it was stored before this keeper started; it is not known by which relay's clock it is dated.

    def _update_worker(self, key: str, value: bytes | None) -> None:
        if value is None:
            self._workers.pop(key, None)
            self._polls.forget(key)
            return
        poll = read_poll(value, partial(_log_unreadable, key, self._put_aside))
        _store(self._workers, key, poll if isinstance(poll, WorkerEntry) else None)
        if poll is not None:
            is_arriving = self._watched_workers.complete.is_set()
            for job in self._polls.record(key, poll, self._clock(), is_arriving=is_arriving):
                if not _is_held_by(self._records.get(job), key):
                    self._contact.forget((key, job))

    def _forget_holder(self, job: str, known: JobRecord | None) -> None:
        """A known record has another holder from here on, or none."""
        if known is not None and known.holder is not None:
            self._contact.forget((known.holder.worker, job))

    async def _on_relay_beat(self, message: Message) -> None:
        if (beat := _parse_beat(message.data)) is not None:
            self._contact.record_beat(self._clock(), beat)


def _note_end(mover: RecordMover, job: str, ended: JobRecord | None) -> None:
    """A record has ended, or has left the bucket; relays move those of submitted jobs."""
    if ended is None:
        mover.discard(job)
    elif ended.terms is None:
        mover.add(job)


def _store(entries: dict[str, WorkerEntry], worker: str, entry: WorkerEntry | None) -> None:
    if entry is None:
        # It can't be read as a whole: what an older entry lacks, this one may have.
        entries.pop(worker, None)
    else:
        entries[worker] = entry


def _parse_record(job: str, value: bytes, put_aside: Callable[[str], None]) -> JobRecord | None:
    try:
        return parse_record(job, value)
    except RecordUnreadable:
        log.warning("record_unreadable", job=job)
        put_aside("record")
        return None


def _log_unreadable(worker: str, put_aside: Callable[[str], None], error: ValidationError) -> None:
    log.warning("worker_entry_unreadable", worker=worker, errors=error.error_count())
    put_aside("entry")


def _parse_beat(value: bytes) -> RelayBeat | None:
    try:
        return RelayBeat.model_validate_json(value)
    except ValidationError as error:
        log.warning("relay_beat_unreadable", errors=error.error_count())
        return None


def _is_held_by(record: JobRecord | None, worker: str) -> bool:
    return record is not None and record.holder is not None and record.holder.worker == worker
