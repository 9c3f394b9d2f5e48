"""What a producer is told of a job that waits, and what stays with the operators."""

import asyncio
from typing import Any

import pytest

from edge_schemas.admin.why import CauseCode
from edge_schemas.wire import routes
from support.relay.agents import Agent, agent, arrived, publish
from support.relay.edge import Edge
from support.relay.jobs import make_job
from support.relay.producers import Producer, producer

C = CauseCode


async def causes(shop: Producer, job: str, *expected: CauseCode) -> str:
    """The sentences, once the causes are these; a replica sees a poll a moment later."""
    found: list[dict[str, str]] = []
    async with asyncio.timeout(10):
        while tuple(one["code"] for one in found) != expected:
            reply = await shop.call("GET", routes.JOB_WHY.format(job=job))
            assert reply.status == 200, reply.body
            found = reply.json["causes"]
            await asyncio.sleep(0.02)
    assert all(set(one) == {"code", "text"} for one in found)
    return "; ".join(one["text"] for one in found)


@pytest.fixture
async def poll(edge: Edge) -> Any:
    """Leaves a poll of a worker with this report parked."""
    polls: list[asyncio.Task[Any]] = []

    async def start(one: Agent, **report: Any) -> None:
        polls.append(asyncio.create_task(one.poll(**report)))
        await arrived(edge, one)

    yield start
    for one in polls:
        one.cancel()


async def test_a_worker_that_accepts_no_commands(edge: Edge, poll: Any) -> None:
    shop = await producer(edge)
    await poll(await agent(edge), free=0)
    job = await shop.submitted(command={"argv": ["date"]})
    said = await causes(shop, job, C.KIND_REFUSED)
    assert "the only worker of queue default accepts no commands" in said
    assert "EDGE_WORKER_COMMANDS" in said


async def test_no_job_of_another_queue_is_named(edge: Edge, poll: Any) -> None:
    """An operator is told what fills the workers; the producer only that they are full."""
    shop, one = await producer(edge), await agent(edge)
    secret = await publish(edge.broker, make_job("default"))
    [grant] = await one.grants(slots=1)
    assert (await one.start(grant)).status == 204
    running = [{"id": secret.id, "phase": "running"}]
    await poll(one, free=0, slots=1, jobs=running, kinds=["task", "payload"])
    job = await shop.submitted()
    said = await causes(shop, job, C.ALL_FULL)
    assert said == "the only worker of queue default is full; the job starts when a slot becomes free"


async def test_a_reason_of_an_operator_is_not_told(edge: Edge) -> None:
    shop = await producer(edge)
    path = routes.ADMIN_QUEUE_ACTIONS
    body = {"action": {"do": "pause"}, "queues": [{"queue": "default"}], "reason": "the press burns"}
    reply = await edge.call("POST", path, edge.access_token, json=body, operators=True)
    assert reply.status == 200, reply.body
    said = await causes(shop, await shop.submitted(), C.QUEUE_PAUSED, C.NO_WORKER)
    assert "queue default is paused; an operator can resume it" in said
    assert "press" not in said


async def test_a_job_of_another_queue_has_no_causes(edge: Edge) -> None:
    shop, other = await producer(edge), await producer(edge, "secret", name="other")
    job = await other.submitted()
    assert (await shop.call("GET", routes.JOB_WHY.format(job=job))).code == "not_found"
    task = await publish(edge.broker)
    assert (await shop.call("GET", routes.JOB_WHY.format(job=task.id))).code == "not_found"
