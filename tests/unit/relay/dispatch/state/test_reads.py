"""Reads for many polls: each once, few at a time, none that nobody waits for, and none is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_broker.records import RecordStore, RecordUnreadable
from edge_relay.dispatch.state import reads
from edge_relay.dispatch.state.reads import AT_ONCE, StateReads
from edge_relay.metrics.replica import Metrics
from edge_relay.stores.worker_store import WorkerStore
from edge_schemas.life.model import JobRecord, new_record
from edge_schemas.wire.worker_entry import WorkerEntry
from support.nats.server import eventually
from support.relay.jobs import make_job

RECORD = new_record(make_job())


class Stores:
    """Records and entries whose reads a test lets end."""

    def __init__(self) -> None:
        self.reads: list[str] = []
        self.at_once = self.most_at_once = 0
        self.open = asyncio.Event()
        self.failures: list[Exception] = []
        self.connected = asyncio.Event()
        self.connected.set()

    async def wait_connected(self) -> None:
        await self.connected.wait()

    async def get(self, name: str) -> JobRecord | None:
        self.reads.append(name)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await self.open.wait()
            await asyncio.sleep(0)
            if self.failures:
                raise self.failures.pop()
        finally:
            self.at_once -= 1
        return RECORD


class Poll:
    """Asks, and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.unreadable: list[str] = []

    def record_read(self, job: str, record: JobRecord | None) -> None:
        assert record is RECORD
        self.told.append(job)

    def record_unreadable(self, job: str) -> None:
        self.unreadable.append(job)

    def entry_read(self, entry: WorkerEntry | None) -> None:
        self.told.append("entry")


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> Stores:
    monkeypatch.setattr(reads, "FIRST_DELAY_S", 0.01)
    return Stores()


@asynccontextmanager
async def running(stores: Stores) -> AsyncIterator[StateReads]:
    store = StateReads(cast("Broker", stores), cast("RecordStore", stores), cast("WorkerStore", stores), Metrics())
    task = asyncio.create_task(store.run())
    await asyncio.sleep(0)
    yield store
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (store._queued, store._asked, store._running) == ({}, {}, 0)


async def test_one_read_serves_all_who_asked_before_it_began(stores: Stores) -> None:
    async with running(stores) as store:
        polls = [Poll() for _ in range(100)]
        for poll in polls:
            store.record("job", poll)
        late = Poll()
        await eventually(lambda: stores.reads == ["job"])
        store.record("job", late)
        stores.open.set()
        await eventually(lambda: late.told == ["job"])
        assert [poll.told for poll in polls] == [["job"]] * 100
        assert stores.reads == ["job", "job"], "a read that has begun may be too old for who asks later"


async def test_few_reads_at_a_time_and_each_poll_gets_all(stores: Stores) -> None:
    stores.open.set()
    async with running(stores) as store:
        polls = [Poll() for _ in range(20)]
        for number, poll in enumerate(polls):
            store.entry(f"worker-{number}", poll)
            for job in range(50):
                store.record(f"job-{number}-{job}", poll)
        await eventually(lambda: not any(store.waits(poll) for poll in polls))
    assert stores.most_at_once == AT_ONCE
    assert len(stores.reads) == len(set(stores.reads)) == 20 * 51
    assert all(len(poll.told) == 51 for poll in polls)


async def test_what_nobody_waits_for_is_not_read(stores: Stores) -> None:
    async with running(stores) as store:
        gone, waits = Poll(), Poll()
        for number in range(AT_ONCE):
            store.record(f"first-{number}", gone)
        await eventually(lambda: stores.at_once == AT_ONCE)
        for number in range(100):
            store.record(f"queued-{number}", gone)
        store.record("queued-7", waits)
        store.leave(gone)
        assert not store.waits(gone)
        stores.open.set()
        await eventually(lambda: waits.told == ["queued-7"])
    assert stores.reads[AT_ONCE:] == ["queued-7"]
    assert gone.told == []


@pytest.mark.parametrize("failure", [BrokerUnavailable("no leader"), JetStreamError(1, "rejected")])
async def test_a_failed_read_is_repeated_and_the_others_are_not(stores: Stores, failure: Exception) -> None:
    stores.open.set()
    stores.failures = [failure] * 3
    async with running(stores) as store:
        poll = Poll()
        for number in range(40):
            store.record(f"job-{number}", poll)
        await eventually(lambda: not store.waits(poll))
    assert sorted(poll.told) == sorted(f"job-{number}" for number in range(40))
    assert len(stores.reads) == 43


async def test_nothing_is_tried_without_a_connection(stores: Stores) -> None:
    stores.connected.clear()
    stores.open.set()
    async with running(stores) as store:
        gone, waits = Poll(), Poll()
        store.record("gone", gone)
        store.record("job", waits)
        await asyncio.sleep(0.05)
        assert stores.reads == []
        store.leave(gone)
        stores.connected.set()
        await eventually(lambda: waits.told == ["job"])
    assert stores.reads == ["job"]


async def test_a_record_that_cannot_be_read_harms_only_itself(stores: Stores) -> None:
    stores.open.set()
    stores.failures = [RecordUnreadable("job-0")]
    async with running(stores) as store:
        poll = Poll()
        for number in range(3):
            store.record(f"job-{number}", poll)
        await eventually(lambda: not store.waits(poll))
    assert (poll.unreadable, poll.told) == (["job-0"], ["job-1", "job-2"])
