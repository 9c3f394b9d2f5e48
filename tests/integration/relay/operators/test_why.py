"""Each cause that a relay can see, produced for real, and answered right within two seconds."""

import asyncio
import json
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edge_broker.bucket import Bucket
from edge_broker.subjects import WORKERS_BUCKET
from edge_relay.cli import main
from edge_relay.cli.output import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from edge_relay.desired.store import DesiredStore
from edge_schemas.admin.access import AccessScope, AccessTokenEntry
from edge_schemas.admin.audit import Actor, ActorKind, AuditEvent, TargetKind
from edge_schemas.admin.desired import AvailabilityOrder
from edge_schemas.admin.why import CauseCode, WhyAnswer
from edge_schemas.life.events import ReportUserCode, Withdraw
from edge_schemas.life.model import new_record
from edge_schemas.why.wording import moment
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import Job, JobKind, TaskWork
from edge_schemas.wire.worker_entry import WorkerEntry
from edge_schemas.wire.workers import Availability, SecretKind, hash_secret, new_secret
from support.nats.server import eventually
from support.network.link import Cut
from support.relay.agents import Agent, agent, arrived, publish
from support.relay.edge import Edge, running_edge
from support.relay.jobs import make_auxiliary_job, make_job

C = CauseCode
WITHIN_S = 2.0


async def why(edge: Edge, job: Job, *codes: CauseCode, token: str | None = None) -> WhyAnswer:
    """The answer for a job, once its causes are these; it must be so within two seconds."""
    began = time.monotonic()
    while True:
        path = routes.ADMIN_JOB_WHY.format(job=job.id)
        reply = await edge.call("GET", path, token or edge.access_token, operators=True)
        assert reply.status == 200, reply.body
        answer = WhyAnswer.model_validate_json(reply.body)
        if tuple(one.code for one in answer.causes) == codes:
            assert time.monotonic() - began < WITHIN_S
            return answer
        assert time.monotonic() - began < WITHIN_S, [(one.code, one.text) for one in answer.causes]
        await asyncio.sleep(0.02)


async def busy(edge: Edge, one: Agent, *, slots: int = 1) -> list[Job]:
    """Fill a worker; its poll that reports it stays parked at the relay."""
    jobs = [await publish(edge.broker) for _ in range(slots)]
    for grant in await one.grants(slots, slots=slots):
        assert (await one.start(grant)).status == 204
    return jobs


@pytest.fixture
async def polls() -> Any:
    """Starts polls that stay open, and ends them."""
    open_: list[asyncio.Task[Any]] = []

    async def start(edge: Edge, one: Agent, **report: Any) -> None:
        open_.append(asyncio.create_task(one.poll(**report), name="open-poll"))
        await arrived(edge, one)

    yield start
    for task in open_:
        task.cancel()
    await asyncio.gather(*open_, return_exceptions=True)


def order(**more: Any) -> AvailabilityOrder:
    values = {"availability": Availability.PAUSED, "reason": "new press", "by": "ann", "since": datetime.now(UTC)}
    return AvailabilityOrder.model_validate({**values, **more})


def told(_: object, __: object) -> AuditEvent:
    """The event of a change."""
    actor = Actor(kind=ActorKind.SYSTEM, name="tests")
    return AuditEvent(at=datetime.now(UTC), action="set", target_kind=TargetKind.QUEUE, target="any", actor=actor)


def store(edge: Edge) -> DesiredStore:
    parts = edge.relays[0].parts
    return DesiredStore(parts.broker, parts.desired)


async def test_no_worker_then_full_then_next(edge: Edge, polls: Any) -> None:
    job = await publish(edge.broker, make_job("press"))
    answer = await why(edge, job, C.NO_WORKER)
    assert answer.causes[0].text.startswith("No worker serves queue press; enrol one")
    assert answer.queue == "press"
    assert answer.task == "d.t, run r, try 1"
    assert answer.waits_since is not None
    one = await agent(edge, queue="press")
    answer = await why(edge, job, C.WORKER_OFFLINE)
    assert "never polled" in answer.causes[0].text
    await polls(edge, one, free=0, slots=2)
    answer = await why(edge, job, C.ALL_FULL)
    assert f"({one.name}: 2 of 2)" in answer.causes[0].text


async def test_full_names_what_it_is_full_with_and_since_when(edge: Edge, polls: Any) -> None:
    one = await agent(edge)
    [running] = await busy(edge, one)
    await polls(edge, one, free=0, slots=1, jobs=[{"id": running.id, "phase": "running"}])
    job = await publish(edge.broker)
    answer = await why(edge, job, C.ALL_FULL)
    assert "busy with d.t" in answer.causes[0].text
    record = await edge.records.get(running.id)
    assert record is not None
    assert record.holder is not None
    assert answer.causes[0].since == record.holder.started_at
    second = await publish(edge.broker)
    answer = await why(edge, second, C.ALL_FULL, C.BEHIND_OTHERS)
    assert answer.causes[1].facts["ahead"] == 1


async def test_a_mixed_fleet_and_its_orders(edge: Edge, polls: Any) -> None:
    full, paused, elsewhere = await agent(edge), await agent(edge), await agent(edge, site="shop")
    for one in (paused, elsewhere):
        await polls(edge, one, free=0)
    await polls(edge, full, free=0, slots=4)
    job = await publish(edge.broker)
    await why(edge, job, C.ALL_FULL)
    until = datetime.now(UTC) + timedelta(hours=2)
    await store(edge).change_worker(paused.name, lambda now: now.model_copy(update={"order": order(until=until)}), told)
    answer = await why(edge, job, C.ALL_FULL, C.WORKER_PAUSED)
    assert "2 of 3 workers" in answer.causes[0].text
    assert f"paused by ann until {moment(until, datetime.now(UTC))}: new press ({paused.name})" in answer.causes[1].text
    await store(edge).change_site("shop", lambda now: now.model_copy(update={"order": order(reason="weekend")}), told)
    answer = await why(edge, job, C.SITE_PAUSED, C.WORKER_PAUSED, C.ALL_FULL)
    assert answer.causes[0].text.startswith("Site shop is paused by ann until an operator ends it: weekend")


async def test_a_queue_that_is_paused_limited_or_refuses_a_kind(edge: Edge, polls: Any) -> None:
    one = await agent(edge)
    await busy(edge, one)
    await polls(edge, one, free=0)
    job = await publish(edge.broker)
    await why(edge, job, C.ALL_FULL)
    change = store(edge).change_queue
    await change(None, "default", lambda now: now.model_copy(update={"order": order()}), told)
    answer = await why(edge, job, C.QUEUE_PAUSED, C.ALL_FULL)
    assert "Queue default is paused by ann" in answer.causes[0].text
    limited = {"order": None, "max_running": 1, "kinds": (JobKind.CALLBACK,)}
    await change(None, "default", lambda now: now.model_copy(update=limited), told)
    answer = await why(edge, job, C.KIND_REFUSED, C.QUEUE_LIMIT, C.ALL_FULL)
    assert "may run 1 jobs at once and runs 1" in answer.causes[1].text
    await change(None, "default", lambda now: now.model_copy(update={"max_running": None, "kinds": None}), told)
    await edge.broker.api(
        "CONSUMER.PAUSE.EDGE_JOBS.default", {"pause_until": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    )
    answer = await why(edge, job, C.QUEUE_PAUSED, C.ALL_FULL)
    assert "nats consumer resume" in answer.causes[0].text


async def test_unhealthy_wrong_version_wrong_kind_draining(edge: Edge, polls: Any) -> None:
    ill, newer, leaving = [await agent(edge) for _ in range(3)]
    await polls(edge, ill, free=0, no_jobs_reason="the disk is full")
    work = make_job().work
    assert isinstance(work, TaskWork)
    job = make_job().model_copy(update={"work": work.model_copy(update={"airflow_version": "3.3.2"})})
    await publish(edge.broker, job)
    await polls(edge, newer, free=1, versions={"agent": "0", "python": "3", "platform": "x", "airflow": "3.9.0"})
    await polls(edge, leaving, free=0, draining=True)
    answer = await why(edge, job, C.WORKER_PAUSED, C.WORKER_UNHEALTHY, C.VERSION_REFUSED)
    texts = " ".join(one.text for one in answer.causes)
    for said in (f"{ill.name}: the disk is full", f"{newer.name}: 3.9.0", "drain and exit", "3.3.2"):
        assert said in texts
    auxiliary = await publish(edge.broker, make_auxiliary_job("default"))
    answer = await why(edge, auxiliary, C.WORKER_PAUSED, C.WORKER_UNHEALTHY, C.KIND_REFUSED)
    assert "EDGE_WORKER_AUXILIARY_JOBS" in answer.causes[2].text


async def test_a_site_that_is_gone_and_a_single_worker(edge: Edge, polls: Any) -> None:
    job = await publish(edge.broker)
    gone = [await agent(edge), await agent(edge), await agent(edge, site="shop")]
    bucket = Bucket(edge.broker, WORKERS_BUCKET)
    for one in gone:
        await polls(edge, one, free=1 if one is gone[0] else 0)
        stored = await bucket.get(one.name)
        assert stored.value is not None
        entry = WorkerEntry.model_validate_json(stored.value)
        earlier = entry.agent.model_copy(update={"last_poll_at": datetime.now(UTC) - timedelta(hours=1)})
        entry = entry.model_copy(update={"agent": earlier})
        await bucket.put(one.name, entry.model_dump_json().encode(), revision=stored.revision)
    answer = await why(edge, job, C.SITE_OFFLINE, C.WORKER_OFFLINE)
    assert answer.causes[0].text.startswith("Site plant is offline since ")
    assert "2 workers of queue default there do not answer" in answer.causes[0].text
    assert gone[2].name in answer.causes[1].text


async def test_a_copied_credential(edge: Edge) -> None:
    one = await agent(edge)
    copy = one.again(instance="other", incarnation=one.incarnation)
    job = await publish(edge.broker, make_job("other"))
    await edge.records.get(job.id)
    job = make_job()
    await edge.records.create(new_record(job))  # no message yet: neither agent may start it meanwhile
    first = asyncio.create_task(one.poll(free=0), name="first")
    await arrived(edge, one)
    second = asyncio.create_task(copy.poll(free=0), name="second")
    try:
        answer = await why(edge, job, C.CREDENTIAL_CONFLICT)
        assert "two agents use one credential" in answer.causes[0].text
    finally:
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)


async def test_held_back_behind_others_and_not_published(edge: Edge, polls: Any) -> None:
    """The executor publishes by weight; here the test is the executor."""
    one = await agent(edge)
    await polls(edge, one, free=0)

    def weighted(weight: int, *, ago_s: float = 0) -> Job:
        job = make_job()
        assert isinstance(job.work, TaskWork)
        work = job.work.model_copy(update={"workload": {"ti": {"priority_weight": weight}}})
        at = datetime.now(UTC) - timedelta(seconds=ago_s)
        return job.model_copy(update={"work": work, "published_at": at})

    light = weighted(1, ago_s=30)
    for job in (light, weighted(5), weighted(7), weighted(1)):
        await edge.records.create(new_record(job))
    answer = await why(edge, light, C.ALL_FULL, C.HELD_BACK)
    assert answer.causes[1].facts == {"ahead": 2, "heavier": 2, "free_slots": 0}
    assert "2 of them with a higher priority_weight" in answer.causes[1].text
    await polls(edge, one, free=2)
    answer = await why(edge, light, C.TOO_FEW_SLOTS)
    assert f"({one.name}: 2)" in answer.causes[0].text
    await polls(edge, one, free=3)
    answer = await why(edge, light, C.NOT_PUBLISHED)
    assert "3 slots are free" in answer.causes[0].text


async def test_granted_started_running_stopping_ended(edge: Edge, polls: Any) -> None:
    one = await agent(edge)
    job = await publish(edge.broker)
    [grant] = await one.grants()
    await polls(edge, one, free=0, jobs=[{"id": job.id, "phase": "granted"}])
    answer = await why(edge, job, C.STARTING)
    assert f"{one.name} was granted it" in answer.causes[0].text
    assert (await one.start(grant)).status == 204
    answer = await why(edge, job, C.STARTING)
    assert f"starting on worker {one.name}" in answer.causes[0].text
    await edge.records.change(job.id, ReportUserCode(one.name, "press-4", 17, datetime.now(UTC)))
    answer = await why(edge, job, C.RUNS)
    assert answer.waits_since is None
    await edge.records.change(job.id, Withdraw("cancelled", datetime.now(UTC)))
    await why(edge, job, C.STOPS)
    assert (await one.finish(job.id, exit_code=1)).status == 204
    answer = await why(edge, job, C.ENDED)
    assert "cancelled" in answer.causes[0].text


async def test_released_again_and_again_until_it_is_parked(edge: Edge, polls: Any) -> None:
    one = await agent(edge)
    job = await publish(edge.broker)
    for number in range(1, 6):
        [grant] = await one.grants()
        assert (await one.release(grant, reason="no bundle")).status == 204
        if number == 1:
            await polls(edge, one, free=0)
            answer = await why(edge, job, C.ALL_FULL, C.NEVER_STARTED)
            assert f"granted 1 time and never started; the last release was by {one.name}" in answer.causes[1].text
    answer = await why(edge, job, C.PARKED)
    assert f"edge-relay dead redrive {job.id}" in answer.causes[0].text
    assert "no bundle" in answer.causes[0].text


@pytest.mark.timeout(90)
@pytest.mark.parametrize("cut", [Cut.REFUSE, Cut.BLACK_HOLE])
async def test_without_nats(tmp_path: Path, cut: Cut) -> None:
    async with running_edge(tmp_path, linked=True) as edge:
        job = await publish(edge.broker)
        await why(edge, job, C.NO_WORKER)
        await edge.nats_link.cut(cut)
        answer = await why(edge, job, C.NOT_PUBLISHED)
        assert "NATS does not answer" in answer.causes[0].text


async def limited_token(edge: Edge, scope: AccessScope) -> str:
    """An access token with a scope, written as the store of tokens does."""
    token = new_secret(SecretKind.ACCESS)
    entry = AccessTokenEntry(name="few", scope=scope, created_at=datetime.now(UTC))
    await Bucket(edge.broker, "edge_access").put(f"access.{hash_secret(token)}", entry.model_dump_json().encode())
    return token


async def test_a_caller_sees_their_own_queues_and_sites_only(edge: Edge, polls: Any) -> None:
    mine, other = await publish(edge.broker), await publish(edge.broker, make_job("secret"))
    one = await agent(edge, site="shop")
    await polls(edge, one, free=0)
    token = await limited_token(edge, AccessScope(queues=("default",), sites=("plant",)))
    path = routes.ADMIN_JOB_WHY.format(job=mine.id)
    assert (await edge.call("GET", path, token, operators=True)).code == "not_found", "no own worker serves its queue"
    await polls(edge, await agent(edge, site="plant"), free=0)
    answer = await why(edge, mine, C.ALL_FULL, C.UNKNOWN, token=token)
    assert "1 further worker of queue default is at sites that you may not see" in answer.causes[1].text
    assert one.name not in answer.model_dump_json()
    for path in (
        routes.ADMIN_JOB_WHY.format(job=other.id),
        routes.ADMIN_JOB_WHY.format(job=uuid.uuid4()),
    ):
        assert (await edge.call("GET", path, token, operators=True)).code == "not_found"
    assert (await edge.call("GET", routes.ADMIN_JOB_WHY.format(job=mine.id), operators=True)).code == "unauthenticated"


async def test_a_task_is_found_by_its_name(edge: Edge, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = await publish(edge.broker)
    token = tmp_path / "access.token"
    token.write_text(edge.access_token)
    where = ("--url", edge.relays[0].operators_url, "--access-token-file", str(token))

    async def command(*words: str) -> int:
        capsys.readouterr()
        return await asyncio.to_thread(main, ["why", *words, *where])

    async def is_known() -> bool:
        return await command("d", "r", "t") == EXIT_OK

    await eventually(is_known, what="the relay has seen the record")
    said = capsys.readouterr().out
    assert "No worker serves queue default" in said
    assert "d.t, run r, try 1" in said
    assert await command("--job", job.id, "--json") == EXIT_OK
    said = capsys.readouterr().out
    assert json.loads(said[said.index("{\n") :])["causes"][0]["code"] == "no_worker"
    assert await command("d", "r", "t", "--map-index", "7") != EXIT_OK
    assert "RELAY_GATE_URLS" in capsys.readouterr().err
    assert await command(job.id) == EXIT_OK
    assert "No worker serves queue default" in capsys.readouterr().out
    assert await command("d", "r") == EXIT_USAGE
    assert await command("--job", str(uuid.uuid4())) == EXIT_FAILED
    for query in ("dag=d", "dag=d&run=r&task=t&map_index=x", "dag=d&run=r&task=t&more=1"):
        assert (await edge.admin("GET", f"{routes.ADMIN_WHY}?{query}")).code == "invalid_request"
