"""A worker whose Airflow runtime is too new for the centre: told so, seen by operators, and in nobody's way."""

import asyncio
from pathlib import Path
from typing import Any

import orjson

from edge_broker.layout import ensure_consumer
from edge_broker.subjects import consumer_name
from edge_schemas.admin.rows import WorkerPage
from edge_schemas.gate.centre import CentreFacts
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import Job, JobKind
from edge_schemas.wire.workers import SecretKind, hash_secret, new_secret
from support.relay.agents import VERSIONS, agent, publish, pulling
from support.relay.edge import Edge, running_edge
from support.relay.fake_gate import KEY, running_gate
from support.relay.jobs import make_job

CENTRE = "3.3.2"


def of_centre(version: str = CENTRE) -> Job:
    job = make_job()
    return job.model_copy(update={"work": job.work.model_copy(update={"airflow_version": version})})


def runs(version: str) -> dict[str, Any]:
    """What a poll reports of a runtime with this Airflow."""
    return {"versions": {**VERSIONS, "airflow": version}}


async def test_it_is_told_the_centres_version_and_another_worker_gets_the_job(edge: Edge) -> None:
    """The job waits in its queue meanwhile: it was not started, and nothing of it is lost."""
    new, good = await agent(edge), await agent(edge)
    asked = asyncio.create_task(new.poll(**runs("3.4.0")))
    job = await publish(edge.broker, of_centre())
    reply = await asked
    assert reply.status == 200
    assert (reply.json["required_airflow"], reply.json["grants"]) == (CENTRE, [])
    [grant] = await good.grants(**runs("3.3.9"))
    assert grant["job"]["id"] == job.id


async def test_one_that_waits_longer_does_not_keep_it_from_the_next(edge: Edge) -> None:
    """Both polls are parked here, the unfit one first."""
    new, good = await agent(edge), await agent(edge)
    await ensure_consumer(edge.broker, None, "default", JobKind.TASK)
    unfit = asyncio.create_task(new.poll(**runs("4.0.0")))
    await pulling(edge, consumer_name(None, "default", JobKind.TASK))
    fit = asyncio.create_task(good.poll(**runs("3.3.2")))
    await pulling(edge, consumer_name(None, "default", JobKind.TASK), 2)
    job = await publish(edge.broker, of_centre(), consumer=False)
    told, got = await asyncio.gather(unfit, fit)
    assert told.json["required_airflow"] == CENTRE
    assert [grant["job"]["id"] for grant in got.json["grants"]] == [job.id]


async def test_a_job_that_has_waited_through_an_upgrade_of_the_centre_is_granted(tmp_path: Path) -> None:
    """Centre and worker have both been upgraded. By what the job was published with, nobody would ever take it."""
    secret = tmp_path / "gate.secret"
    secret.write_bytes(KEY)
    async with running_gate() as gate, running_edge(tmp_path, gate_urls=(gate.url,), gate_key_file=secret) as edge:
        gate.body = CentreFacts(airflow_version="3.4.0", python_version="3.12.1").model_dump_json().encode()
        one = await agent(edge)
        jobs = [await publish(edge.broker, of_centre()) for _ in range(2)]
        grants = await one.grants(2, **runs("3.4.1"))
        assert {grant["job"]["id"] for grant in grants} == {job.id for job in jobs}
        assert {grant["job"]["work"]["airflow_version"] for grant in grants} == {"3.4.0"}


async def test_operators_see_why_a_worker_takes_nothing(edge: Edge) -> None:
    one = await agent(edge)
    assert (
        await one.poll(free=0, poll_timeout_s=0, no_jobs_reason="the runtime is too new", **runs("3.4.0"))
    ).status == 204
    reply = await edge.admin("GET", routes.ADMIN_WORKERS)
    [seen] = WorkerPage.model_validate_json(reply.body).items
    assert seen.versions is not None
    assert (seen.versions.airflow, seen.no_jobs_reason) == ("3.4.0", "the runtime is too new")


async def test_enrolment_tells_the_centres_version_and_refuses_no_runtime(tmp_path: Path) -> None:
    """An enrolled worker can install another runtime; one that is not could not even ask which."""
    secret = tmp_path / "gate.secret"
    secret.write_bytes(KEY)
    async with running_gate() as gate, running_edge(tmp_path, gate_urls=(gate.url,), gate_key_file=secret) as edge:
        gate.body = CentreFacts(airflow_version=CENTRE, python_version="3.12.1").model_dump_json().encode()
        for runtime in ("4.0.0", None):
            body = {"protocol": 1, "secret_hash": hash_secret(new_secret(SecretKind.WORKER)), "airflow": runtime}
            reply = await edge.call("POST", routes.ENROLL, await edge.token(), json=body)
            assert reply.status == 200, reply.body
            assert orjson.loads(reply.body)["airflow"] == CENTRE
