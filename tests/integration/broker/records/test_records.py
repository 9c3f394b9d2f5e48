"""Records on a real JetStream: created once, changed by one writer at a time, alive after a crash of the server."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_broker import layout
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.permissions import ADMIN, EXECUTOR, KEEPER, READER, RELAY
from edge_broker.records import DispatchSeen, RecordStore
from edge_broker.subjects import RECORDS_BUCKET
from edge_broker.watched_bucket import WatchedBucket
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.life.events import Finish, Start
from edge_schemas.life.model import JobRecord, JobState, Verdict, new_record
from edge_schemas.wire.errors import EdgeError, ErrorCode
from support.nats.server import connected, eventually, running_server
from support.relay.jobs import make_job


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with running_server(tmp_path / "nats") as running:
        yield running


async def test_a_dispatch_is_created_once(server: NatsServer) -> None:
    """A repeat after a lost answer is recognised; another dispatch with the same id is refused."""
    async with connected(server, EXECUTOR) as broker:
        store, job = RecordStore(broker), make_job()
        await store.create(new_record(job))
        await store.create(new_record(job))
        with pytest.raises(DispatchSeen):
            await store.create(new_record(job.model_copy(update={"queue": "other"})))


async def test_of_many_starters_exactly_one_becomes_the_holder(server: NatsServer) -> None:
    """Compare-and-swap, not the message, decides who holds a job."""
    async with (
        connected(server, EXECUTOR) as executor,
        connected(server, RELAY) as one,
        connected(server, RELAY) as two,
    ):
        job = make_job()
        await RecordStore(executor).create(new_record(job))
        stores = [RecordStore(one), RecordStore(two)]
        tries = [stores[i % 2].change(job.id, Start(f"w{i}", 1, datetime.now(UTC))) for i in range(20)]
        answers = await asyncio.gather(*tries, return_exceptions=True)
        winners = [a for a in answers if not isinstance(a, BaseException)]
        losers = [a for a in answers if isinstance(a, EdgeError)]
        assert len(winners) == 1
        assert [e.code for e in losers] == [ErrorCode.NOT_HOLDER] * 19


async def test_a_change_outlasts_a_crash_of_the_server(server: NatsServer) -> None:
    """Killed in between, the server comes back and the change is made; a watched bucket sees it without being told."""
    seen: list[JobState] = []
    async with connected(server, RELAY) as broker, connected(server, KEEPER) as keeper, asyncio.TaskGroup() as group:
        store, job = RecordStore(broker), make_job()
        await store.create(new_record(job))
        watched = WatchedBucket(
            keeper,
            RECORDS_BUCKET,
            lambda _, value: seen.append(JobRecord.model_validate_json(value or b"").state),
        )
        following = group.create_task(watched.run())
        await watched.complete.wait()
        await store.change(job.id, Start("w", 1, datetime.now(UTC)))
        await server.stop(kill=True)
        change = group.create_task(store.change(job.id, Finish("w", 1, None, datetime.now(UTC))))
        await server.start()
        _, after = await change
        assert after.outcome is not None
        assert after.outcome.verdict is Verdict.FAILED
        await eventually(lambda: seen and seen[-1] is JobState.ENDED, what=f"the watched bucket has seen {seen}")
        following.cancel()


async def test_nobody_may_do_anothers_part(server: NatsServer) -> None:
    """Least rights per role: what a role does not need, the server refuses it."""
    forbidden = {
        RELAY: ["STREAM.DELETE.EDGE_JOBS", "STREAM.PURGE.KV_edge_jobs", "CONSUMER.DELETE.EDGE_JOBS.default"],
        EXECUTOR: ["STREAM.DELETE.EDGE_JOBS", "STREAM.MSG.GET.KV_edge_access"],
        KEEPER: ["STREAM.PURGE.EDGE_JOBS", "STREAM.MSG.GET.KV_edge_access"],
        READER: ["STREAM.MSG.GET.KV_edge_access", "STREAM.MSG.GET.KV_edge_jobs"],
    }

    async def refused(broker: Broker, call: str) -> None:
        with pytest.raises(BrokerUnavailable, match="right"):
            await broker.request(f"$JS.API.{call}", b"{}", timeout_s=0.5)

    async def kept_out(role: str, calls: list[str]) -> None:
        async with connected(server, role) as broker:
            await asyncio.gather(*(refused(broker, call) for call in calls))

    await asyncio.gather(*(kept_out(role, calls) for role, calls in forbidden.items()))
    async with connected(server, ADMIN) as admin:
        assert await layout.check(admin) == []
