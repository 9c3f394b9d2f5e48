"""A keeper and a relay on one NATS: each job is looked after by one of them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.permissions import ADMIN, RELAY
from edge_broker.records import RecordStore
from edge_broker.subjects import AUDIT, RECORDS_BUCKET
from edge_relay.serve import serving
from edge_relay.settings import Settings
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.life.events import Finish, ReportUserCode, Start
from edge_schemas.life.model import JobRecord, JobState, new_record
from edge_schemas.wire.jobs import Job
from support.airflow.keeper import WORKER, Centre, beating, keeper_settings, poll, publish, running_keeper
from support.airflow.real_airflow import RealAirflow, add_task
from support.nats.server import PASSWORDS, connected, eventually
from support.relay.jobs import payload_job

pytestmark = pytest.mark.timeout(180)  # the first one starts Airflow


@pytest.fixture
async def admin(nats: NatsServer) -> AsyncIterator[Broker]:
    async with connected(nats, ADMIN) as broker:
        yield broker


def relay_settings(nats: NatsServer, directory: Path) -> Settings:
    """A relay without TLS, on free ports."""
    password = directory / "relay.password"
    password.write_text(PASSWORDS[RELAY])
    return Settings(
        name="relay-0",
        host="127.0.0.1",
        port=0,
        operators_port=0,
        nats_urls=(nats.url,),
        nats_password_file=password,
    )


async def held(records: RecordStore, job: Job) -> Job:
    """A job that the worker has started, long ago."""
    await records.create(new_record(job))
    await records.change(job.id, Start(WORKER, 1, datetime.now(UTC) - timedelta(hours=1)))
    return job


async def state(records: RecordStore, job: str) -> JobRecord:
    record = await records.get(job)
    assert record is not None
    return record


async def actors(admin: Broker, job: str) -> list[str]:
    """Who has given this job up, by the audit."""
    last = (await admin.api(f"STREAM.INFO.{AUDIT}"))["state"]["last_seq"]
    calls = [orjson.dumps({"seq": number}) for number in range(1, last + 1)]
    found = [orjson.loads((await admin.request(f"$JS.API.DIRECT.GET.{AUDIT}", call)).data) for call in calls]
    return [one["actor"]["name"] for one in found if (one["target"], one["action"]) == (job, "job-given-up")]


async def test_a_keeper_leaves_submitted_jobs_alone(airflow: RealAirflow, nats: NatsServer, admin: Broker) -> None:
    """It gives up Airflow's job of the same silent worker, and moves only Airflow's record."""
    records = RecordStore(admin)
    silent = add_task("running")
    await publish(records, silent, tolerance_s=60)
    at = datetime.now(UTC) - timedelta(hours=2)
    await records.change(silent.job, Start(WORKER, 1, at))
    await records.change(silent.job, ReportUserCode(WORKER, "host-1", 4711, at))
    submitted = await held(records, payload_job(tolerance_s=60))
    ended = await held(records, payload_job())
    await records.change(ended.id, Finish(WORKER, 0, None, datetime.now(UTC)))
    await poll(admin, silent.job, submitted.id, ago_s=120)
    async with running_keeper(keeper_settings(nats, airflow)) as keeper, beating(admin):
        keeper._mover._after_s = 0.1

        async def is_moved() -> bool:
            return (await Bucket(admin, RECORDS_BUCKET).get(silent.job)).value is None

        await eventually(is_moved, timeout_s=20, what="Airflow's job is given up and its record is moved")
        assert (await state(records, submitted.id)).state is JobState.RUNNING
        assert (await Bucket(admin, RECORDS_BUCKET).get(ended.id)).value is not None
        assert keeper.health()["unfinished_jobs"] == 0


async def test_a_keeper_and_a_relay_each_give_up_their_jobs(
    airflow: RealAirflow, nats: NatsServer, admin: Broker, tmp_path: Path
) -> None:
    """Once each, by the same rules: the worker is silent for both."""
    records = RecordStore(admin)
    silent = add_task("running")
    await publish(records, silent, tolerance_s=60)
    at = datetime.now(UTC) - timedelta(hours=2)
    await records.change(silent.job, Start(WORKER, 1, at))
    await records.change(silent.job, ReportUserCode(WORKER, "host-1", 4711, at))
    submitted = await held(records, payload_job(tolerance_s=60))
    tolerant = await held(records, payload_job(tolerance_s=600))
    await poll(admin, silent.job, submitted.id, tolerant.id, ago_s=120)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(beating(admin))
        await stack.enter_async_context(running_keeper(keeper_settings(nats, airflow)))
        await stack.enter_async_context(serving(relay_settings(nats, tmp_path)))

        async def are_given_up() -> bool:
            return bool(await actors(admin, silent.job)) and bool(await actors(admin, submitted.id))

        await eventually(are_given_up, timeout_s=20)
        assert (await state(records, submitted.id)).state is JobState.WAITING
        assert (await state(records, tolerant.id)).state is JobState.RUNNING
        [by_keeper], [by_relay] = await actors(admin, silent.job), await actors(admin, submitted.id)
    assert by_keeper.startswith("keeper ")
    assert by_relay == "relay relay-0"


async def test_a_submitted_job_makes_no_calls_to_airflow(centre: Centre) -> None:
    """Its worker holds the job, but no task instance and no connection is the job's own."""
    job = await held(centre.records, payload_job())
    for method, path in (("GET", "variables/x"), ("PATCH", f"task-instances/{job.id}/run"), ("GET", "connections/c")):
        reply = await centre.relay.call(method, job.id, path, {} if method == "PATCH" else None)
        assert (reply.status, reply.code) == (403, "forbidden")
