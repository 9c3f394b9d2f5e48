"""Reads through the stream leader for all parked polls of this replica.

A thousand polls may want to read at the same moment, after a reconnect for example. So a few reads are made at a time,
one for each record or entry however many polls want it, and none that no poll waits for any more. A read that fails is
repeated here; a poll keeps what its other reads have brought.
"""

import asyncio
import random
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import structlog

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_broker.records import RecordStore, RecordUnreadable
from edge_relay.metrics.replica import Metrics
from edge_relay.stores.worker_store import WorkerStore
from edge_schemas.life.model import JobRecord
from edge_schemas.wire.worker_entry import WorkerEntry

log = structlog.get_logger(__name__)

AT_ONCE = 16
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 2.0


class Asker(Protocol):
    """Who wants to know. Called in the event loop; must not block."""

    def record_read(self, job: str, record: JobRecord | None) -> None:
        """The record of a job, as it was after it was asked for."""

    def record_unreadable(self, job: str) -> None:
        """The record can't be parsed, so that nothing is known of the job."""

    def entry_read(self, entry: WorkerEntry | None) -> None:
        """The entry of a worker, as it was after it was asked for."""


class Kind(Enum):
    """What is read."""

    RECORD = "record"
    ENTRY = "entry"


@dataclass(frozen=True, slots=True)
class _Key:
    kind: Kind
    name: str


@dataclass(eq=False, slots=True)
class _Read:
    """A read and who waits for it."""

    key: _Key
    askers: set[Asker] = field(default_factory=set)


class StateReads:
    """The reads that wait and those under way. Run `run()` in a task group."""

    def __init__(self, broker: Broker, records: RecordStore, workers: WorkerStore, metrics: Metrics) -> None:
        self._broker = broker
        self._records = records
        self._workers = workers
        self._metrics = metrics
        self._queued: dict[_Key, _Read] = {}
        self._asked: dict[Asker, set[_Read]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._running = 0
        metrics.state_reads_queued.set_function(lambda: len(self._queued))

    def record(self, job: str, asker: Asker) -> None:
        """Read the record of a job; a read that is under way already does not count: it may be too old."""
        self._ask(_Key(Kind.RECORD, job), asker)

    def entry(self, worker: str, asker: Asker) -> None:
        """Read the entry of a worker, in the same way."""
        self._ask(_Key(Kind.ENTRY, worker), asker)

    def waits(self, asker: Asker) -> bool:
        """Whether something that it asked for has not been read yet."""
        return asker in self._asked

    def leave(self, asker: Asker) -> None:
        """Drop what only this one waits for."""
        for read in self._asked.pop(asker, ()):
            read.askers.discard(asker)
            if not read.askers and self._queued.get(read.key) is read:
                del self._queued[read.key]

    async def run(self) -> None:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None

    def _ask(self, key: _Key, asker: Asker) -> None:
        read = self._queued.setdefault(key, _Read(key))
        read.askers.add(asker)
        self._asked.setdefault(asker, set()).add(read)
        if self._group is not None and self._running < AT_ONCE:
            self._running += 1
            self._group.create_task(self._read_all(), name="state-reader")

    async def _read_all(self) -> None:
        """Read until nothing waits. A read that has begun can't be joined, so its answer is new to all who asked."""
        delay_s = FIRST_DELAY_S
        try:
            while self._queued:
                await self._broker.wait_connected()
                if not self._queued:
                    return
                read = self._queued.pop(next(iter(self._queued)))
                try:
                    await self._read(read)
                    delay_s = FIRST_DELAY_S
                except (BrokerUnavailable, JetStreamError) as error:
                    log.debug("state_read_failed", kind=read.key.kind.value, error=str(error))
                    self._put_back(read)
                    await asyncio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311  # jitter, nothing secret
                    delay_s = min(delay_s * 2, LONGEST_DELAY_S)
        finally:
            self._running -= 1

    async def _read(self, read: _Read) -> None:
        key = read.key
        self._metrics.state_reads.labels(key.kind.value).inc()
        if key.kind is Kind.ENTRY:
            entry = await self._workers.get(key.name)
            for asker in self._answered(read):
                asker.entry_read(entry)
            return
        try:
            record = await self._records.get(key.name)
        except RecordUnreadable:
            log.warning("record_unreadable", job=key.name)
            for asker in self._answered(read):
                asker.record_unreadable(key.name)
            return
        for asker in self._answered(read):
            asker.record_read(key.name, record)

    def _answered(self, read: _Read) -> set[Asker]:
        """Who still waits for a read; they wait no longer."""
        for asker in read.askers:
            asked = self._asked[asker]
            asked.discard(read)
            if not asked:
                del self._asked[asker]
        return read.askers

    def _put_back(self, read: _Read) -> None:
        for asker in self._answered(read):
            self._ask(read.key, asker)
