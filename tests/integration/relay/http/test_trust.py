"""A worker sees and touches only what is its own. Each refusal has its exact code, and nothing has changed."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_broker.layout import ensure_consumer
from edge_broker.subjects import JOBS, LOGS, job_subject
from edge_schemas.life.events import Finish, Release
from edge_schemas.wire import routes
from edge_schemas.wire.errors import ERRORS, ErrorCode
from edge_schemas.wire.jobs import Job, JobKind
from edge_schemas.wire.workers import EnrollTokenRequest, SecretKind, new_secret
from support.nats.server import eventually
from support.relay.edge import Edge, Reply, Worker, running_edge
from support.relay.fake_gate import KEY, FakeGate, running_gate

OCTETS = {"Content-Type": "application/octet-stream"}
VERSIONS = {"agent": "1", "python": "3", "platform": "x"}
NOBODYS_JOB = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Plant:
    """Two workers of one queue, a third of another, two replicas and a gate.

    Attributes:
        job: Runs on `owner`.
    """

    edge: Edge
    gate: FakeGate
    owner: Worker
    thief: Worker
    stranger: Worker
    job: Job

    async def picture(self) -> tuple[object, ...]:
        """All that a refused call must leave as it is."""
        info = [await self.edge.broker.api(f"STREAM.INFO.{stream}") for stream in (JOBS, LOGS)]
        sequences = tuple(one["state"]["last_seq"] for one in info)
        return (await self.edge.records.get(self.job.id), sequences, len(self.gate.calls))


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Plant]:
    secret = tmp_path / "gate.secret"
    secret.write_bytes(KEY)
    async with (
        running_gate() as gate,
        running_edge(tmp_path, replicas=2, gate_urls=(gate.url,), gate_key_file=secret) as edge,
    ):
        await ensure_consumer(edge.broker, None, "default", JobKind.TASK)
        await ensure_consumer(edge.broker, None, "other", JobKind.TASK)
        owner, thief, stranger = await edge.worker(), await edge.worker(), await edge.worker(queue="other")
        yield Plant(edge, gate, owner, thief, stranger, await edge.job(owner))


async def poll(edge: Edge, worker: Worker, *, poll_timeout_s: float = 5, free: int = 1, replica: int = 0) -> Reply:
    report = {
        "protocol": 1,
        "incarnation": 1,
        "seq": 1,
        "slots": 1,
        "free": free,
        "poll_timeout_s": poll_timeout_s,
        "versions": VERSIONS,
        "settings_version": 1,
    }
    return await edge.call("POST", routes.POLL, worker.secret, json=report, replica=replica)


async def granted(edge: Edge, worker: Worker, queue: str = "default") -> tuple[Job, str]:
    """A waiting job that was offered to this worker, and its receipt."""
    job = await edge.job()
    await edge.broker.store(job_subject(None, queue, JobKind.TASK, job.id), job.model_dump_json().encode())
    answer = await poll(edge, worker)
    grant = answer.json["grants"][0]
    assert grant["job"]["id"] == job.id
    return job, grant["receipt"]


def is_refusal(reply: Reply, code: ErrorCode) -> None:
    assert (reply.status, reply.code) == (ERRORS[code].status, code), reply.body


CALLS = ["finish", "log", "execution GET", "execution PATCH"]


async def act(edge: Edge, secret: str, job: str, what: str, *, replica: int = 0) -> Reply:
    """A call on a running job as its holder would make it."""
    match what.split():
        case ["finish"]:
            return await edge.call(
                "POST",
                routes.JOB_FINISH.format(job=job),
                secret,
                json={"exit_code": 0, "incarnation": 1},
                replica=replica,
            )
        case ["log"]:
            path = f"{routes.JOB_LOG.format(job=job)}?offset=0"
            return await edge.call("PUT", path, secret, body=b"x", headers=OCTETS, replica=replica)
        case ["execution", method]:
            path = routes.JOB_EXECUTION.format(job=job, path="task-instances/x/run")
            return await edge.call(method, path, secret, json={}, replica=replica)
        case _:
            raise AssertionError(what)


@pytest.mark.parametrize("what", CALLS)
async def test_another_workers_job_is_out_of_reach(plant: Plant, what: str) -> None:
    """On either replica, for a worker of the same queue, while it runs; the owner may all of it."""
    before = await plant.picture()
    for replica in (0, 1):
        for other in (plant.thief, plant.stranger):
            is_refusal(await act(plant.edge, other.secret, plant.job.id, what, replica=replica), ErrorCode.NOT_HOLDER)
    assert await plant.picture() == before
    assert (await act(plant.edge, plant.owner.secret, plant.job.id, what)).status in {200, 204}


@pytest.mark.parametrize("what", CALLS)
async def test_a_job_that_nobody_has_is_gone(plant: Plant, what: str) -> None:
    is_refusal(await act(plant.edge, plant.owner.secret, NOBODYS_JOB, what), ErrorCode.JOB_ENDED)
    assert plant.gate.calls == []


@pytest.mark.parametrize("what", ["finish", "log", "execution GET"])
async def test_a_waiting_job_is_not_anybodys(plant: Plant, what: str) -> None:
    waiting = await plant.edge.job()
    before = await plant.edge.records.get(waiting.id)
    is_refusal(await act(plant.edge, plant.owner.secret, waiting.id, what), ErrorCode.WRONG_STATE)
    assert await plant.edge.records.get(waiting.id) == before


@pytest.mark.parametrize(
    ("what", "code"),
    [("finish", ErrorCode.JOB_ENDED), ("log", ErrorCode.NOT_HOLDER), ("execution GET", ErrorCode.JOB_ENDED)],
)
async def test_an_ended_job_of_another_is_out_of_reach(plant: Plant, what: str, code: ErrorCode) -> None:
    await plant.edge.records.change(plant.job.id, Finish(plant.owner.name, 0, None, datetime.now(UTC)))
    before = await plant.picture()
    is_refusal(await act(plant.edge, plant.thief.secret, plant.job.id, what), code)
    assert await plant.picture() == before


@pytest.mark.parametrize("route", [routes.JOB_START, routes.JOB_RELEASE])
async def test_a_receipt_is_for_one_worker_and_one_job(plant: Plant, route: str) -> None:
    edge = plant.edge
    job, receipt = await granted(edge, plant.owner)
    more = {"incarnation": 1} if route == routes.JOB_START else {"reason": "r"}
    before = await edge.records.get(job.id)

    async def present(worker: Worker, named: str, sealed: str) -> Reply:
        return await edge.call("POST", route.format(job=named), worker.secret, json={"receipt": sealed, **more})

    is_refusal(await present(plant.thief, job.id, receipt), ErrorCode.FORBIDDEN)
    is_refusal(await present(plant.owner, plant.job.id, receipt), ErrorCode.INVALID_REQUEST)
    for forged in (receipt[:-2] + "AA", "A" * 200, "", "ü"):
        is_refusal(await present(plant.owner, job.id, forged), ErrorCode.INVALID_REQUEST)
    assert await edge.records.get(job.id) == before
    assert (await present(plant.owner, job.id, receipt)).status == 204


async def test_jobs_of_other_queues_are_never_offered(plant: Plant) -> None:
    """The stranger waits next to a job that is not its; the owner gets it at once."""
    edge = plant.edge
    job = await edge.job()
    waiting = asyncio.create_task(poll(edge, plant.stranger, poll_timeout_s=1))
    await edge.broker.store(job_subject(None, "default", JobKind.TASK, job.id), job.model_dump_json().encode())
    assert (await waiting).status == 204
    answer = await poll(edge, plant.owner)
    assert answer.json["grants"][0]["job"]["id"] == job.id


BAD_SECRETS = {
    "none": None,
    "empty": "",
    "unknown": new_secret(SecretKind.WORKER),
    "an enrolment token": new_secret(SecretKind.ENROLLMENT),
    "not ASCII": SecretKind.WORKER + "ü" * 43,
    "long": SecretKind.WORKER + "x" * 5000,
}


@pytest.mark.parametrize("name", BAD_SECRETS)
async def test_without_a_credential_nothing_is_served(plant: Plant, name: str) -> None:
    edge, secret, before = plant.edge, BAD_SECRETS[name], await plant.picture()
    for what in CALLS:
        # The parameter lists calls that take a secret.
        is_refusal(await act(edge, secret, plant.job.id, what), ErrorCode.UNAUTHENTICATED)  # type: ignore[arg-type]
    for route in (routes.POLL, routes.JOB_START.format(job=plant.job.id), routes.JOB_RELEASE.format(job=plant.job.id)):
        is_refusal(await edge.call("POST", route, secret, json={}), ErrorCode.UNAUTHENTICATED)
    for method, route in [
        ("POST", routes.ADMIN_ENROLL_TOKENS),
        ("GET", routes.ADMIN_WORKERS),
        ("POST", routes.ADMIN_WORKER_ACTIONS),
        ("POST", routes.ADMIN_JOB_ACTIONS),
    ]:
        is_refusal(await edge.call(method, route, secret, json={}, operators=True), ErrorCode.UNAUTHENTICATED)
    assert await plant.picture() == before


async def test_each_secret_opens_its_own_door_only(plant: Plant) -> None:
    edge = plant.edge
    is_refusal(await act(edge, edge.access_token, plant.job.id, "finish"), ErrorCode.UNAUTHENTICATED)
    is_refusal(
        await edge.call("GET", routes.ADMIN_WORKERS, plant.owner.secret, operators=True), ErrorCode.UNAUTHENTICATED
    )
    # What operators do is not served where workers are.
    is_refusal(await edge.call("GET", routes.ADMIN_WORKERS, edge.access_token), ErrorCode.NOT_FOUND)
    is_refusal(await edge.call("GET", routes.METRICS), ErrorCode.NOT_FOUND)


async def test_a_revoked_worker_is_shut_out_everywhere_within_two_seconds(plant: Plant) -> None:
    """Its parked poll ends too, on the other replica than the one that was told."""
    edge = plant.edge
    parked = asyncio.create_task(poll(edge, plant.owner, poll_timeout_s=30, free=0, replica=1))
    await eventually(lambda: _has_polled(edge, plant.owner), what="the poll is parked")
    before = await plant.picture()
    async with asyncio.timeout(2):
        await edge.act_on_worker(plant.owner.name, "revoke")
        is_refusal(await parked, ErrorCode.CREDENTIAL_REVOKED)
        for replica in (0, 1):
            for what in CALLS:
                reply = await act(edge, plant.owner.secret, plant.job.id, what, replica=replica)
                is_refusal(reply, ErrorCode.CREDENTIAL_REVOKED)
    assert await plant.picture() == before
    assert (await edge.act_on_worker(plant.owner.name, "revoke")).json["unchanged_count"] == 1
    assert (await poll(edge, plant.thief, poll_timeout_s=0)).status == 204


async def _has_polled(edge: Edge, worker: Worker) -> bool:
    workers = (await edge.admin("GET", routes.ADMIN_WORKERS)).json["items"]
    return any(one["worker"] == worker.name and "last_poll_at" in one for one in workers)


async def test_enrolment_tokens_end(plant: Plant) -> None:
    edge = plant.edge
    spent = await edge.token()
    await edge.enroll(spent)
    order, past = EnrollTokenRequest(queues=("default",), site="s", ttl_s=1), datetime.now(UTC) - timedelta(seconds=2)
    expired = (await edge.enrollments.create_token(order, now=past)).token
    workers = (await edge.admin("GET", routes.ADMIN_WORKERS)).json["items"]
    for token in (spent, expired, new_secret(SecretKind.ENROLLMENT), plant.owner.secret, edge.access_token):
        for replica in (0, 1):
            is_refusal(await edge.enroll(token, replica=replica), ErrorCode.ENROLLMENT_REFUSED)
    assert (await edge.admin("GET", routes.ADMIN_WORKERS)).json["items"] == workers


async def test_operators_see_workers_and_redrive_parked_jobs(plant: Plant) -> None:
    edge = plant.edge
    await poll(edge, plant.thief, poll_timeout_s=0)
    listed = {one["worker"]: one for one in (await edge.admin("GET", routes.ADMIN_WORKERS)).json["items"]}
    assert set(listed) == {plant.owner.name, plant.thief.name, plant.stranger.name}
    assert (listed[plant.thief.name]["slots"], listed[plant.thief.name]["running"]) == (1, 0)
    assert "last_poll_at" not in listed[plant.owner.name]
    assert not any("secret" in key for one in listed.values() for key in one)

    async def redrive(job: str) -> Reply:
        order = {"action": {"do": "redrive"}, "jobs": [job], "reason": "the cause is gone"}
        return await edge.admin("POST", routes.ADMIN_JOB_ACTIONS, order)

    async def is_refused(job: str, code: ErrorCode) -> bool:
        return [one["code"] for one in (await redrive(job)).json["failures"]] == [code]

    job = await edge.job()
    assert await is_refused(plant.job.id, ErrorCode.WRONG_STATE)
    for number in range(5):
        await edge.records.change(job.id, Release(f"w{number}", "no room", counted=True, at=datetime.now(UTC)))
    assert (await redrive(job.id)).json["changed"] == [job.id]
    record = await edge.records.get(job.id)
    assert record is not None
    assert record.parked is None
    assert (await redrive(job.id)).json["unchanged_count"] == 1
    assert await edge.records.get(job.id) == record
    assert await is_refused(NOBODYS_JOB, ErrorCode.JOB_ENDED)
    is_refusal(await redrive("x.y"), ErrorCode.INVALID_REQUEST)


@pytest.mark.parametrize("name", ["a.b", "*", ">", "a b", "UPPER", "-x", "x" * 300, "ü", ""])
async def test_names_that_are_none_make_no_token(edge: Edge, name: str) -> None:
    order = {"queues": ["default"], "site": name}
    reply = await edge.admin("POST", routes.ADMIN_ENROLL_TOKENS, order)
    is_refusal(reply, ErrorCode.INVALID_REQUEST)
    assert reply.json["detail"].startswith("site: must be a DNS label: lower-case letters")


@pytest.mark.parametrize("queue", ["", " x", "x ", "a\nb", "x" * 101, "ü" * 100, "\u202e"])
async def test_queues_that_are_none_make_no_token(edge: Edge, queue: str) -> None:
    order = {"queues": [queue], "site": "s"}
    is_refusal(await edge.admin("POST", routes.ADMIN_ENROLL_TOKENS, order), ErrorCode.INVALID_REQUEST)


@pytest.mark.parametrize("queue", ["a.b", "*", ">", "a b", "ü", "x" * 100, "$JS.API", "-"])
async def test_odd_queues_are_served_and_mean_themselves_only(edge: Edge, queue: str) -> None:
    """A queue named `>` gets its own jobs and nobody else's."""
    for name in (queue, "default"):
        await ensure_consumer(edge.broker, None, name, JobKind.TASK)
    worker = await edge.worker(queue=queue)
    for name in ("default", queue):
        job = await edge.job()
        job = job.model_copy(update={"queue": name})
        await edge.broker.store(job_subject(None, name, JobKind.TASK, job.id), job.model_dump_json().encode())
    answer = await poll(edge, worker)
    assert [grant["job"]["queue"] for grant in answer.json["grants"]] == [queue]
