"""Jobs of workers that vanish or come back without them, with real keepers, NATS and Airflow."""

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import orjson
import pytest

from edge_broker.connection.broker import Broker
from edge_broker.permissions import ADMIN, EXECUTOR, RELAY
from edge_broker.records import RecordStore
from edge_broker.subjects import AUDIT
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.life.events import ReportUserCode, Start
from edge_schemas.life.model import JobState, Outcome, Verdict
from edge_schemas.wire.offline import MIN_TOLERANCE_S
from edge_schemas.wire.worker_entry import CLOCK_STEP_S
from support.airflow.keeper import WORKER, FakeRelay, beating, keeper_settings, poll, publish, running_keeper
from support.airflow.real_airflow import DAG_ID, RUN_ID, RealAirflow, TaskIds, add_task
from support.nats.server import connected, eventually

pytestmark = pytest.mark.timeout(180)  # the first one starts Airflow


@pytest.fixture
async def relay(nats: NatsServer) -> AsyncIterator[Broker]:
    """The connection of a relay."""
    async with connected(nats, RELAY) as broker:
        yield broker


@pytest.fixture
async def records(nats: NatsServer) -> AsyncIterator[RecordStore]:
    """Where the executor publishes."""
    async with connected(nats, EXECUTOR) as broker:
        yield RecordStore(broker)


@asynccontextmanager
async def two_keepers(airflow: RealAirflow, nats: NatsServer) -> AsyncIterator[FakeRelay]:
    """Two keepers, and a relay that calls the first one's gate."""
    settings = keeper_settings(nats, airflow)
    async with running_keeper(settings) as one, running_keeper(settings), aiohttp.ClientSession() as session:
        yield FakeRelay(session, port=one.port)


async def in_user_code(records: RecordStore, ids: TaskIds, *, tolerance_s: float, worker: str = WORKER) -> None:
    await publish(records, ids, tolerance_s=tolerance_s)
    at = datetime.now(UTC) - timedelta(hours=2)
    await records.change(ids.job, Start(worker, 1, at))
    await records.change(ids.job, ReportUserCode(worker, "host-1", 4711, at))


async def ended(records: RecordStore, job: str) -> Outcome | None:
    record = await records.get(job)
    assert record is not None
    return record.outcome


async def audited(nats: NatsServer, job: str) -> list[dict[str, Any]]:
    """What the audit stream says of a job."""
    async with connected(nats, ADMIN) as admin:
        last = (await admin.api(f"STREAM.INFO.{AUDIT}"))["state"]["last_seq"]
        order = [orjson.dumps({"seq": number}) for number in range(1, last + 1)]
        found = [await admin.request(f"$JS.API.DIRECT.GET.{AUDIT}", one) for one in order]
    events = [orjson.loads(message.data) for message in found]
    return [event for event in events if event["target"] == job]


async def test_jobs_of_a_vanished_worker_are_lost_when_their_own_tolerance_is_over(
    airflow: RealAirflow, nats: NatsServer, relay: Broker, records: RecordStore
) -> None:
    """By two keepers that start while it is silent: once, at its time, with a reason, and nothing arrives after it."""
    short, long = add_task("running"), add_task("running")
    await in_user_code(records, short, tolerance_s=60)
    await in_user_code(records, long, tolerance_s=600)
    await poll(relay, short.job, long.job, ago_s=57 + CLOCK_STEP_S)
    over = time.monotonic() + 3
    xcom = f"xcoms/{DAG_ID}/{RUN_ID}/{short.task_id}/key"
    async with two_keepers(airflow, nats) as gate, beating(relay):
        in_time = await gate.call("POST", short.job, f"{xcom}-in-time", "v")
        outcome = await eventually(lambda: ended(records, short.job))
        late_s = time.monotonic() - over
        late = await gate.call("POST", short.job, f"{xcom}-late", "v")
        read = await gate.call("GET", short.job, "variables/x")
        kept = await gate.call("GET", long.job, xcom.replace("key", "key-late"))
    assert 0 <= late_s < 2.5, late_s
    assert outcome is not None
    assert (outcome.verdict, in_time.status) == (Verdict.LOST, 201)
    assert (late.status, late.code, read.status, read.code) == (410, "job_ended", 410, "job_ended")
    assert (kept.status, kept.from_airflow) == (404, True)
    assert await ended(records, long.job) is None
    [event] = await audited(nats, short.job)
    assert (event["action"], event["facts"]["worker"], event["reason"]) == ("job-given-up", WORKER, outcome.reason)
    assert re.fullmatch(
        r"no contact with worker plant-1 about this job for 6\d s \(offline tolerance 60 s\)", event["reason"]
    )


@pytest.mark.parametrize("ahead_s", [-70, -20, 20, 70])
async def test_a_relay_whose_clock_is_off_costs_no_job_and_keeps_none(
    airflow: RealAirflow, nats: NatsServer, relay: Broker, records: RecordStore, ahead_s: float
) -> None:
    """Keepers start; one worker polled a second before, the other one half a minute."""
    live, lost = add_task("running"), add_task("running")
    await in_user_code(records, live, tolerance_s=60)
    await in_user_code(records, lost, tolerance_s=MIN_TOLERANCE_S, worker="plant-2")
    await poll(relay, live.job, ago_s=1 - ahead_s)
    await poll(relay, lost.job, worker="plant-2", ago_s=30 - ahead_s)
    async with two_keepers(airflow, nats), beating(relay, ahead_s=ahead_s):
        outcome = await eventually(lambda: ended(records, lost.job))
        assert outcome is not None
        silence = re.search(r"for (\d+) s", str(outcome.reason))
        assert silence is not None
        assert 30 - CLOCK_STEP_S <= int(silence[1]) < 45, "by the relay's own clock"
        assert await ended(records, live.job) is None


async def test_a_centre_that_was_away_loses_nobodys_jobs_at_its_start(
    airflow: RealAirflow, nats: NatsServer, relay: Broker, records: RecordStore
) -> None:
    """The last poll is an hour old, and so is the centre's end. A worker that then calls keeps its jobs."""
    ids, marker = add_task("running"), add_task("running")
    await in_user_code(records, ids, tolerance_s=60)
    await in_user_code(records, marker, tolerance_s=10)
    await poll(relay, ids.job, marker.job, ago_s=3600)
    async with two_keepers(airflow, nats), beating(relay, serving_for_s=8 + CLOCK_STEP_S):
        # Relays serve again for 8 s by then: the shortest tolerance ends 2 s later, and no other does.
        await eventually(lambda: ended(records, marker.job))
        assert await ended(records, ids.job) is None


async def test_a_worker_started_again_loses_what_it_lacks_within_seconds(
    airflow: RealAirflow, nats: NatsServer, relay: Broker, records: RecordStore
) -> None:
    kept, lacked, unstarted, copied = add_task("running"), add_task("running"), add_task(), add_task("running")
    for ids in (kept, lacked):
        await in_user_code(records, ids, tolerance_s=600)
    await publish(records, unstarted)
    await records.change(unstarted.job, Start(WORKER, 1, datetime.now(UTC)))
    await publish(records, copied)
    await records.change(copied.job, Start("plant-2", 1, datetime.now(UTC)))
    await records.change(copied.job, ReportUserCode("plant-2", "host-2", 4711, datetime.now(UTC)))
    async with two_keepers(airflow, nats), beating(relay):
        await poll(relay, kept.job, lacked.job, unstarted.job)
        await poll(relay, copied.job, worker="plant-2")
        await poll(relay, worker="plant-2", incarnation=2, instance="another-machine")
        await poll(relay, kept.job, incarnation=2)
        began = time.monotonic()
        outcome = await eventually(lambda: ended(records, lacked.job))
        assert time.monotonic() - began < 3
        assert outcome is not None
        assert outcome.verdict is Verdict.LOST
        assert "came back without the job" in str(outcome.reason)

        async def waits_again() -> bool:
            record = await records.get(unstarted.job)
            return record is not None and record.state is JobState.WAITING

        await eventually(waits_again)
    # The other agent of plant-2 may live on another machine.
    for ids in (kept, copied):
        assert await ended(records, ids.job) is None


@pytest.mark.soak
@pytest.mark.parametrize("away", ["relay", "nats", "frozen nats"])
async def test_an_outage_of_the_centre_longer_than_the_tolerance_costs_nothing(
    airflow: RealAirflow, nats: NatsServer, relay: Broker, records: RecordStore, away: str
) -> None:
    """The worker calls again some seconds after the centre is back; only its silence after that counts."""
    ids, outage_s = add_task("running"), 1.5 * MIN_TOLERANCE_S
    await in_user_code(records, ids, tolerance_s=MIN_TOLERANCE_S)
    async with two_keepers(airflow, nats):
        async with beating(relay):
            await poll(relay, ids.job)
            await asyncio.sleep(2)  # a span of contact, so that the outage is one to the keepers
            if away == "nats":
                await nats.stop(kill=True)
            elif away == "frozen nats":
                os.kill(nats.pid, signal.SIGSTOP)
            if away != "relay":
                await asyncio.sleep(outage_s)
        if away == "relay":
            await asyncio.sleep(outage_s)
        elif away == "nats":
            await nats.start()
            await relay.wait_connected(20)
        else:
            os.kill(nats.pid, signal.SIGCONT)
        async with beating(relay, serving_for_s=0):
            await asyncio.sleep(MIN_TOLERANCE_S / 2)
            assert await ended(records, ids.job) is None
            await poll(relay, ids.job)
            began = time.monotonic()
            outcome = await eventually(lambda: ended(records, ids.job), timeout_s=20)
            assert outcome is not None
            assert outcome.verdict is Verdict.LOST
            assert MIN_TOLERANCE_S <= time.monotonic() - began <= MIN_TOLERANCE_S + 2.5
