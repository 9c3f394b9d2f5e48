"""The arrivals of polls: one write each where possible, few at a time, and decided by the entry that is stored."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg

from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.permissions import ADMIN
from edge_broker.subjects import worker_notice
from edge_relay.dispatch.arrival import agent_seen
from edge_relay.stores import write_rounds
from edge_relay.stores.worker_store import ARRIVALS_AT_ONCE, WorkerStore
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.polls import Poll
from edge_schemas.wire.worker_entry import WorkerEntry
from edge_schemas.wire.worker_report import WorkerVersions
from support.nats.server import connected, eventually, running_server
from support.relay.agents import agent, both, parked
from support.relay.edge import Edge
from support.relay.fleet import worker_event

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
    event = worker_event("worker-conflict-resolved", "w")
    assert await elsewhere.resolve_conflict("w", keep_newer=False, event=event)
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


@pytest.fixture
def _long_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long enough for what a test does while a write waits."""
    monkeypatch.setattr(write_rounds, "ROUND_S", 2.0)


async def rested(store: WorkerStore, *workers: str) -> None:
    """Polls of these workers that were answered empty, so that their next polls are written in rounds."""
    for worker in workers:
        stored = await store.arrive(entry(worker, seq=1), superseded_by=None)
        store.answered_empty(worker, stored.entry.agent.arrival)


async def in_round(store: WorkerStore, worker: str) -> asyncio.Task[Any]:
    """The second poll of a worker, whose write waits for a round."""
    await rested(store, "leader", worker)
    await store.arrive(entry("leader", seq=2), superseded_by=None)
    waiting = asyncio.create_task(store.arrive(entry(worker, seq=2), superseded_by=None))
    await asyncio.sleep(0)
    return waiting


async def test_polls_after_an_empty_answer_are_written_together(broker: Broker, calls: Calls) -> None:
    store, workers = WorkerStore(broker), [f"w-{n}" for n in range(20)]
    await rested(store, *workers)
    assert calls.most == 1
    await asyncio.gather(*(store.arrive(entry(worker, seq=2), superseded_by=None) for worker in workers))
    assert calls.most == len(workers) - 1, "the first one is not delayed"
    for worker in workers:
        found = await store.get(worker)
        assert found is not None
        assert found.agent.seq == 2


@pytest.mark.usefixtures("_long_rounds")
@pytest.mark.parametrize(("incarnation", "seq"), [(2, 1), (1, 3)], ids=["agent", "poll"])
@pytest.mark.parametrize("here", [True, False], ids=["here", "elsewhere"])
async def test_a_write_that_waits_does_not_replace_a_newer_one(
    broker: Broker, incarnation: int, seq: int, *, here: bool
) -> None:
    store = WorkerStore(broker)
    waiting = await in_round(store, "w")
    other = store if here else WorkerStore(broker)
    await other.arrive(entry(seq=seq, incarnation=incarnation), superseded_by=None)
    assert not waiting.done()
    with pytest.raises(EdgeError) as refused:
        await waiting
    assert refused.value.code is ErrorCode.SUPERSEDED
    found = await store.get("w")
    assert found is not None
    assert (found.agent.incarnation, found.agent.seq) == (incarnation, seq)


@pytest.mark.usefixtures("_long_rounds")
async def test_a_write_that_waits_survives_a_restart_of_nats(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, connected(server, ADMIN) as broker:
        store = WorkerStore(broker)
        waiting = await in_round(store, "w")
        await server.stop(kill=True)
        await eventually(lambda: not broker.connected)
        assert not waiting.done()
        await server.start()
        assert (await waiting).entry.agent.seq == 2
        found = await store.get("w")
        assert found is not None
        assert found.agent.seq == 2


async def test_only_arrivals_that_may_concern_other_replicas_are_announced(broker: Broker) -> None:
    """The notice of a further poll would come back to this replica, and wake it for nothing."""
    announced: list[str] = []

    async def take(message: Msg) -> None:
        announced.append(message.data.decode())

    await broker.subscribe(worker_notice("w"), take)
    here, elsewhere = WorkerStore(broker), WorkerStore(broker)
    first, *_ = [await here.arrive(entry(seq=seq), superseded_by=None) for seq in (1, 2, 3)]
    moved = await elsewhere.arrive(entry(seq=4), superseded_by=None)
    back = await here.arrive(entry(seq=5), superseded_by=None)
    restarted = await here.arrive(entry(seq=1, incarnation=2), superseded_by=None)
    expected = [one.entry.agent.arrival for one in (first, moved, back, restarted)]
    await eventually(lambda: len(announced) >= len(expected), what="the last notice")
    assert announced == expected


async def test_a_poll_is_answered_once_its_write_is_stored(edge: Edge) -> None:
    agents = [await agent(edge) for _ in range(5)]
    for seq in (1, 2, 3):
        replies = await both([one.poll(poll_timeout_s=0) for one in agents])
        assert {reply.status for reply in replies} == {204}
        for one in agents:
            found = await edge.relays[0].parts.workers.get(one.name)
            assert found is not None
            assert found.agent.seq == seq


@pytest.mark.usefixtures("_long_rounds")
async def test_a_write_that_waits_is_stored_when_the_replica_stops(edge: Edge) -> None:
    leader, one = await agent(edge), await agent(edge)
    await both([leader.poll(poll_timeout_s=0), one.poll(poll_timeout_s=0)])
    await leader.poll(poll_timeout_s=0)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(one.poll())
        await parked(edge, 1)
        found = await edge.relays[1].parts.workers.get(one.name)
        assert found is not None
        assert found.agent.seq == 1
        edge.relays[0].parts.lifecycle.stop()
        reply = await waiting
    assert (reply.status, reply.code) == (503, "draining")
    found = await edge.relays[1].parts.workers.get(one.name)
    assert found is not None
    assert found.agent.seq == 2
