"""Keepers move the records of ended jobs out of the bucket that all keepers and executors watch."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime

from edge_broker.bucket import Bucket
from edge_broker.permissions import EXECUTOR
from edge_broker.records import RecordStore
from edge_broker.subjects import ENDED_BUCKET, RECORDS_BUCKET
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.life.events import Start, Withdraw
from edge_schemas.life.model import JobRecord, Verdict
from support.airflow.keeper import keeper_settings, publish, running_keeper
from support.airflow.real_airflow import RealAirflow, add_task
from support.nats.server import connected, eventually


async def test_two_keepers_move_what_ended_before_and_after_their_start(airflow: RealAirflow, nats: NatsServer) -> None:
    """Each record once, with its fate; what is unfinished stays."""
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(connected(nats, EXECUTOR))
        records = RecordStore(broker)
        before, after, unfinished = add_task(), add_task(), add_task("running")
        for ids in (before, after, unfinished):
            await publish(records, ids)
        await records.change(before.job, Withdraw("marked failed", datetime.now(UTC)))
        await records.change(unfinished.job, Start("w", 1, datetime.now(UTC)))
        keepers = [await stack.enter_async_context(running_keeper(keeper_settings(nats, airflow))) for _ in range(2)]
        await eventually(lambda: all(len(keeper._mover) == 1 for keeper in keepers))
        for keeper in keepers:
            keeper._mover._after_s = 0.1
        await records.change(after.job, Withdraw("marked failed", datetime.now(UTC)))

        async def moved() -> bool:
            watched = Bucket(broker, RECORDS_BUCKET)
            values = [(await watched.get(ids.job)).value for ids in (before, after)]
            return values == [None, None] and not any(len(keeper._mover) for keeper in keepers)

        await eventually(moved)
        for ids in (before, after):
            stored = await Bucket(broker, ENDED_BUCKET).get(ids.job)
            record = JobRecord.model_validate_json(stored.value or b"")
            assert record == await records.get(ids.job)
            assert record.outcome is not None
            assert record.outcome.verdict is Verdict.CANCELLED
        assert (await Bucket(broker, RECORDS_BUCKET).get(unfinished.job)).value is not None
        assert [keeper.health()["unfinished_jobs"] for keeper in keepers] == [1, 1]
