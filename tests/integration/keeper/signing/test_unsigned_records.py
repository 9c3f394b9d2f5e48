"""The gate makes calls only for jobs that the executor has signed, whatever a relay's NATS user has written."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from edge_broker.bucket import Bucket
from edge_broker.permissions import EXECUTOR, RELAY
from edge_broker.records import RecordStore
from edge_broker.subjects import RECORDS_BUCKET
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.life.events import Start
from edge_schemas.life.model import JobRecord, new_record
from edge_schemas.wire.jobs import Job, TaskIdentity, TaskWork
from support.airflow.keeper import WORKER, Centre, FakeRelay, keeper_settings, run_body, running_keeper
from support.airflow.real_airflow import DAG_ID, RUN_ID, RealAirflow, TaskIds, add_task
from support.nats.server import connected
from support.signing.keys import SigningCentre, signing_centre

pytestmark = pytest.mark.timeout(180)  # the first one starts Airflow


@pytest.fixture
def keys(tmp_path: Path) -> SigningCentre:
    return signing_centre(tmp_path / "keys")


@pytest.fixture
async def centre(airflow: RealAirflow, nats: NatsServer, keys: SigningCentre) -> AsyncIterator[Centre]:
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(connected(nats, EXECUTOR))
        relay_broker = await stack.enter_async_context(connected(nats, RELAY))
        settings = replace(keeper_settings(nats, airflow), signing=keys.settings)
        keeper = await stack.enter_async_context(running_keeper(settings))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Centre(keeper, FakeRelay(session, port=keeper.port), RecordStore(broker), relay_broker, nats)


def job_of(ids: TaskIds) -> Job:
    task = TaskIdentity(ti_id=ids.ti_id, dag_id=DAG_ID, run_id=RUN_ID, task_id=ids.task_id, try_number=1)
    work = TaskWork(task=task, workload={"ti": {"priority_weight": 3}}, core_executor="")
    return Job(id=ids.job, queue="edge", work=work, published_at=datetime.now(UTC))


async def started(centre: Centre, job: Job) -> JobRecord:
    await centre.records.create(new_record(job))
    return (await centre.records.change(job.id, Start(WORKER, 1, datetime.now(UTC))))[1]


async def written(centre: Centre, record: JobRecord) -> None:
    """By the relay's NATS user."""
    bucket = Bucket(centre.broker, RECORDS_BUCKET)
    stored = await bucket.get(record.id)
    await bucket.put(record.id, record.model_dump_json(exclude_none=True).encode(), revision=stored.revision)


async def run(centre: Centre, ids: TaskIds) -> Any:
    return await centre.relay.call("PATCH", ids.job, f"task-instances/{ids.ti_id}/run", run_body())


async def test_a_signed_job_makes_its_calls_also_after_a_rotation(centre: Centre, keys: SigningCentre) -> None:
    ids, other = add_task(), add_task()
    await started(centre, keys.sign(job_of(ids)))
    assert (await run(centre, ids)).status == 200
    keys.rotate()
    await started(centre, keys.sign(job_of(other)))
    assert (await run(centre, other)).status == 200
    assert (await centre.relay.call("GET", ids.job, "variables/absent")).status == 404, "also the older job's"


async def test_without_a_right_signature_no_call_is_made(centre: Centre, keys: SigningCentre, tmp_path: Path) -> None:
    """A record of its own, one of another task, and one that names another task than was signed."""
    ids, other = add_task(), add_task()
    signed = await started(centre, keys.sign(job_of(ids)))
    job = signed.job
    assert job is not None
    stranger = signing_centre(tmp_path / "stranger").sign(job_of(ids))
    for record, why in (
        (signed.model_copy(update={"job": job_of(ids)}), "not signed"),
        (signed.model_copy(update={"job": None}), "not signed"),
        (signed.model_copy(update={"job": stranger}), "no key of the centre"),
        (signed.model_copy(update={"job": keys.sign(job_of(other))}), "altered: id, task instance"),
        (signed.model_copy(update={"task": job_of(other).task}), "altered: task instance"),
        (signed.model_copy(update={"queue": "another"}), "altered: queue"),
    ):
        await written(centre, record)
        reply = await run(centre, ids)
        assert (reply.status, reply.code, reply.signed, reply.from_airflow) == (403, "job_not_signed", True, False)
        assert why in reply.body["detail"]
        read = await centre.relay.call("GET", ids.job, "variables/absent")
        assert (read.status, read.code) == (403, "job_not_signed")
    await written(centre, signed)
    assert (await run(centre, ids)).status == 200


async def test_the_calls_wait_while_the_key_sets_cannot_be_read(centre: Centre, keys: SigningCentre) -> None:
    ids = add_task()
    await started(centre, keys.sign(job_of(ids)))
    hidden = keys.keys_file.rename(keys.keys_file.with_suffix(".away"))
    reply = await run(centre, ids)
    assert (reply.status, reply.code) == (503, "gate_unavailable")
    assert "signing_keys_file" in reply.body["detail"]
    hidden.rename(keys.keys_file)
    assert (await run(centre, ids)).status == 200
