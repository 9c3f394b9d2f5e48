"""Job records in JetStream: created once, changed only by `transition()` and compare-and-swap.

A job ends by a change of its record in `edge_jobs`, like any other change. Some time later the ended record is moved to
`edge_jobs_ended`: copied first, then replaced by a mark of deletion. So a record in `edge_jobs` always decides, and
a reader that finds none there finds the ended one. See docs/adr/0015.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

from pydantic import ValidationError

from edge_broker.bucket import Bucket, RevisionConflict
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, PayloadTooLarge
from edge_broker.ended_index import EndedIndex
from edge_broker.kept_records import KeptRecords
from edge_broker.subjects import ENDED_BUCKET, RECORDS_BUCKET
from edge_schemas.life.events import Event
from edge_schemas.life.model import ENDED_RECORD_LIFE, JobRecord, JobState
from edge_schemas.life.transition import transition
from edge_schemas.wire.errors import EdgeError, ErrorCode

GROWTH_BYTES = 128 * 1024
"""How much a record may grow until it ends: holder, answers, releases with their reasons. A new record leaves this room
in a message, at most a quarter of it; otherwise the job would be published and could never be started."""
PATIENCE_S = 8.0
"""How long a change is retried while the broker elects a leader (5 to 9 s when one dies unplanned)."""
MOVED_MARK_LIFE = timedelta(minutes=10)
"""A `create` that found no ended record may still be under way: for as long as a server keeps a silent connection, some
six minutes. While the mark exists, it creates nothing."""

Change = tuple[JobRecord, JobRecord]
"""A record before and after."""
BeforeChange = Callable[[JobRecord, JobRecord], Awaitable[int | None]]
"""Awaited with the current record and its successor."""


class DispatchSeen(Exception):
    """There is a record of this dispatch already: its id was used before."""


class RecordUnreadable(EdgeError):
    """What is stored as the record of a job can't be read. Only this job is concerned.

    A later version may have written the record, during an upgrade: calls are repeated, and the executor fails the job
    in Airflow if the record stays unreadable.
    """

    def __init__(self, job: str) -> None:
        super().__init__(ErrorCode.INTERNAL, f"the record of job {job} can't be read")


class RecordStore:
    """The records of all jobs, read through the stream leader.

    Args:
        broker: The connection.
        kept: Records that a watch keeps up to date: their changes need no read. Without it, each change reads.
        patience_s: How long a read or a change is retried.
    """

    def __init__(self, broker: Broker, *, kept: KeptRecords | None = None, patience_s: float = PATIENCE_S) -> None:
        self._broker = broker
        self._kept = KeptRecords(max_bytes=0) if kept is None else kept
        self._bucket = Bucket(broker, RECORDS_BUCKET)
        self._ended = Bucket(broker, ENDED_BUCKET)
        self._index = EndedIndex(broker)
        self._patience_s = patience_s

    async def get(self, job: str) -> JobRecord | None:
        """The record of a job; None if there is none, or no longer.

        Raises:
            RecordUnreadable: There is one that can't be read.
            BrokerUnavailable: No answer within the patience.
        """
        retry = _Retry(self._patience_s)
        while True:
            try:
                return (await self._read(job))[0]
            except BrokerUnavailable as error:
                await retry.pause(error)

    async def get_if_readable(self, job: str) -> JobRecord | None:
        """The record of a job; None also if it can't be read, where that makes no difference.

        Raises:
            BrokerUnavailable: No answer within the patience.
        """
        try:
            return await self.get(job)
        except RecordUnreadable:
            return None

    async def create(self, record: JobRecord, *, is_new: bool = False) -> None:
        """Store the record of a new dispatch. A repeat after an unknown outcome succeeds.

        Args:
            record: What is stored.
            is_new: Its id was made a moment ago, at random, so that no record of an ended job can have it.

        Raises:
            DispatchSeen: Another record with this id exists or existed recently.
            PayloadTooLarge: It leaves too little room to grow.
            RecordUnreadable: There is a record that can't be read.
            BrokerUnavailable: The outcome is unknown; repeat it.
        """
        value, limit = _dump(record), self._broker.max_payload
        if len(value) > (room := limit - min(GROWTH_BYTES, limit // 4)):
            raise PayloadTooLarge(len(value), room)
        if not is_new and (await self._ended.get(record.id)).value is not None:
            raise DispatchSeen(record.id)
        try:
            await self._bucket.put(record.id, value, revision=0)
        except RevisionConflict:
            stored = await self._bucket.get(record.id)
            if parse_record(record.id, stored.value) != record:
                raise DispatchSeen(record.id) from None

    async def change(self, job: str, event: Event, *, first: BeforeChange | None = None) -> Change:
        """Apply an event; returns the record before and after, the same object if nothing changed.

        Args:
            job: Its id.
            event: What happened.
            first: Awaited before each swap; if it raises, nothing changes. The swap may still fail because another
                change was faster, so its effect must be harmless then. If it returns a revision, the swap succeeds only
                while this is the highest one in the bucket: what `first` has decided depends on other records.

        Raises:
            EdgeError: `transition` or `first` rejected the change, or the record can't be read (`RecordUnreadable`).
            BrokerUnavailable: The outcome is unknown; repeat it: events may be repeated.
        """
        retry = _Retry(self._patience_s)
        if (changed := await self._change_kept(job, event, first)) is not None:
            return changed
        while True:
            try:
                before, revision = await self._read(job)
                after = transition(before, event)
                assert before is not None  # noqa: S101  # transition() refuses None
                if after is not before:
                    assert before.state is not JobState.ENDED  # noqa: S101  # it may have no revision any more
                    await self._swap(before, after, revision, first)
            except RevisionConflict:
                await asyncio.sleep(random.uniform(0, 0.01))  # noqa: S311  # spreads racing writers, nothing secret
            except BrokerUnavailable as error:
                await retry.pause(error)
            else:
                return before, after

    async def _change_kept(self, job: str, event: Event, first: BeforeChange | None) -> Change | None:
        """Apply an event to the record as it was seen last; None if it has to be read.

        It may be outdated. Only a swap that succeeds proves that it is not: neither a refusal nor "nothing to change".
        """
        if (kept := self._kept.take(job)) is None:
            return None
        with suppress(EdgeError, RevisionConflict):
            before = parse_record(job, kept[0])
            after = transition(before, event)
            if before is not None and after is not before:
                await self._swap(before, after, kept[1], first)
                return before, after
        return None

    async def _swap(self, before: JobRecord, after: JobRecord, revision: int, first: BeforeChange | None) -> None:
        newest = None if first is None else await first(before, after)
        life = ENDED_RECORD_LIFE if after.state is JobState.ENDED else None
        value = _dump(after)
        written = await self._bucket.put(after.id, value, revision=revision, newest=newest, life=life)
        self._kept.keep(after.id, value, written)

    async def move_ended(self, job: str) -> None:
        """Move the record of an ended job to the bucket of ended jobs; nothing changes if it was moved or is no such.

        May be repeated, and called by several processes at once: an ended record never changes.

        Raises:
            JetStreamError: There is no room.
            BrokerUnavailable: The outcome is unknown; repeat it.
            RecordUnreadable: It stays where it is.
        """
        stored = await self._bucket.get(job)
        record = parse_record(job, stored.value)
        if record is None or stored.value is None or record.state is not JobState.ENDED:
            return
        if record.terms is not None:
            await self._index.add(record)
        await self._ended.put(job, stored.value)
        with suppress(RevisionConflict):  # another keeper was faster
            await self._bucket.delete(job, revision=stored.revision, mark_life=MOVED_MARK_LIFE)

    async def _read(self, job: str) -> tuple[JobRecord | None, int]:
        """A record and the revision for its swap. In this order: a record is copied before it goes."""
        stored = await self._bucket.get(job)
        self._kept.keep(job, stored.value, stored.revision)
        if stored.value is not None:
            return parse_record(job, stored.value), stored.revision
        return parse_record(job, (await self._ended.get(job)).value), stored.revision


class _Retry:
    """Growing pauses until the patience is used up; then the last error is raised."""

    def __init__(self, patience_s: float) -> None:
        self._deadline = asyncio.get_running_loop().time() + patience_s
        self._delay_s = 0.05

    async def pause(self, error: BrokerUnavailable) -> None:
        if asyncio.get_running_loop().time() + self._delay_s > self._deadline:
            raise error
        await asyncio.sleep(self._delay_s * random.uniform(0.5, 1))  # noqa: S311
        self._delay_s = min(self._delay_s * 2, 1.0)


def may_have_terms(value: bytes) -> bool:
    """Whether a record may be that of a submitted job, without parsing it: no other record costs a relay anything.

    A quotation mark inside a text is escaped, so only a name of a field looks like this; parameters of a task may have
    it too.
    """
    return b'"terms":' in value


def _dump(record: JobRecord) -> bytes:
    return record.model_dump_json(exclude_none=True).encode()


def parse_record(job: str, value: bytes | None) -> JobRecord | None:
    """What is stored under a job's id; None if there is nothing.

    Raises:
        RecordUnreadable: It is no record, or the record of another job.
    """
    if value is None:
        return None
    try:
        record = JobRecord.model_validate_json(value)
    except ValidationError:
        raise RecordUnreadable(job) from None
    if record.id != job:
        raise RecordUnreadable(job)
    return record
