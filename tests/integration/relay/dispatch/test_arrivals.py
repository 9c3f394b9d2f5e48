"""The arrivals of polls: one write each where possible, few at a time, and decided by the entry that is stored."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.permissions import ADMIN
from edge_relay.dispatch.arrival import agent_seen
from edge_relay.stores.worker_store import ARRIVALS_AT_ONCE, WorkerStore
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.polls import Poll
from edge_schemas.wire.worker_entry import WorkerEntry
from edge_schemas.wire.worker_report import WorkerVersions
from support.nats.server import connected, eventually, running_server

VERSIONS = WorkerVersions(agent="", python="", platform="")


def entry(worker: str = "w", *, seq: int, incarnation: int = 1, instance: str = "machine") -> WorkerEntry:
    """As an arriving poll writes it."""
    report = Poll(protocol=1, incarnation=incarnation, seq=seq, slots=1, free=1, versions=VERSIONS, instance=instance)
    return WorkerEntry(
        worker=worker,
        site="s",
        agent=agent_seen(report, None),
        relay="r",
        poll_timeout_s=1,
        slots=1,
        free=1,
        draining=False,
        jobs=(),
        versions=VERSIONS,
        health=report.health,
    )


class Calls:
    """What the buckets of this process are asked for, and how much at a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gets = self.puts = self.under_way = self.most = 0
        get, put = Bucket.get, Bucket.put

        async def counted_get(bucket: Bucket, key: str) -> Any:
            self.gets += 1
            return await get(bucket, key)

        async def counted_put(bucket: Bucket, *args: Any, **more: Any) -> int:
            self.puts += 1
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            try:
                return await put(bucket, *args, **more)
            finally:
                self.under_way -= 1

        monkeypatch.setattr(Bucket, "get", counted_get)
        monkeypatch.setattr(Bucket, "put", counted_put)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with running_server(tmp_path) as server, connected(server, ADMIN) as connection:
        yield connection


@pytest.fixture
def calls(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


async def test_a_worker_that_stays_at_one_replica_costs_one_write_a_poll(broker: Broker, calls: Calls) -> None:
    store = WorkerStore(broker)
    for seq in range(1, 6):
        stored = await store.arrive(entry(seq=seq), superseded_by=None)
        assert stored.entry.agent.seq == seq
    assert (calls.gets, calls.puts) == (1, 5)


async def test_a_worker_that_changes_between_replicas_loses_nothing(broker: Broker) -> None:
    one, two = WorkerStore(broker), WorkerStore(broker)
    for seq in range(1, 7):
        await (one, two)[seq % 2].arrive(entry(seq=seq), superseded_by=None)
    for store in (one, two):
        with pytest.raises(EdgeError) as refused:
            await store.arrive(entry(seq=3), superseded_by=None)
        assert refused.value.code is ErrorCode.SUPERSEDED
    found = await one.get("w")
    assert found is not None
    assert found.agent.seq == 6


async def test_what_an_operator_decided_meanwhile_counts(broker: Broker) -> None:
    """What this replica wrote last says that there is a conflict; the bucket does not any more."""
    here, elsewhere = WorkerStore(broker), WorkerStore(broker)
    await here.arrive(entry(seq=1, instance="original"), superseded_by=None)
    stored = await here.arrive(entry(seq=2, instance="copy"), superseded_by=None)
    assert stored.entry.conflict is not None
    assert await elsewhere.resolve_conflict("w", keep_newer=False)
    stored = await here.arrive(entry(seq=3, instance="original"), superseded_by=None)
    assert stored.entry.conflict is None


async def test_few_polls_are_written_at_a_time(broker: Broker, calls: Calls) -> None:
    store = WorkerStore(broker)
    number = 5 * ARRIVALS_AT_ONCE
    await asyncio.gather(*(store.arrive(entry(f"w-{n}", seq=1), superseded_by=None) for n in range(number)))
    assert ARRIVALS_AT_ONCE // 2 <= calls.most <= ARRIVALS_AT_ONCE
    assert calls.puts == number


async def test_nothing_is_tried_while_nats_is_unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    async with running_server(tmp_path) as server, connected(server, ADMIN) as broker:
        await server.stop(kill=True)
        await eventually(lambda: not broker.connected)
        store = WorkerStore(broker, patience_s=0.2)
        with pytest.raises(BrokerUnavailable):
            await store.arrive(entry(seq=1), superseded_by=None)
        assert (calls.gets, calls.puts) == (0, 0)
        waiting = asyncio.create_task(WorkerStore(broker).arrive(entry(seq=1), superseded_by=None))
        await server.start()
        assert (await waiting).entry.agent.seq == 1
        assert (calls.gets, calls.puts) == (1, 1)
