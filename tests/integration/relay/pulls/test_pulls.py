"""What is requested from the consumers of queues, counted by a real NATS."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from edge_broker.layout import ensure_consumer
from edge_relay.pulls.lanes import LANES
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import JobKind
from edge_schemas.wire.workers import SecretKind, new_secret
from support.nats.server import eventually
from support.relay.agents import Agent, agent, arrived, parked, publish, pulling
from support.relay.edge import Edge, Reply, Worker
from support.relay.jobs import make_job

MANY = tuple(f"q{number}" for number in range(40))


async def consumer(edge: Edge, name: str) -> dict[str, Any]:
    """As the server describes it."""
    return dict(await edge.broker.api(f"CONSUMER.INFO.EDGE_JOBS.{name}"))


def are_done(polls: Iterable[asyncio.Task[Reply]], number: int) -> bool:
    """Whether exactly so many polls have their answer."""
    return sum(poll.done() for poll in polls) == number


async def deliveries(edge: Edge, queues: Sequence[str]) -> int:
    """How many messages the server has delivered from these queues."""
    return sum([(await consumer(edge, queue))["delivered"]["consumer_seq"] for queue in queues])


async def worker_of(edge: Edge, queues: Sequence[str], *, replica: int = 0) -> Agent:
    """A new worker that serves these queues."""
    body = {"queues": list(queues), "site": "plant", "uses": 1, "ttl_s": 60}
    token = (await edge.admin("POST", routes.ADMIN_ENROLL_TOKENS, body)).json["token"]
    secret = new_secret(SecretKind.WORKER)
    return Agent(edge, Worker((await edge.enroll(token, secret)).json["worker"], secret), replica=replica)


async def work(one: Agent, number: int) -> list[str]:
    """Run this many jobs one after the other; their queues."""
    queues = []
    for _ in range(number):
        [grant] = await one.grants()
        assert (await one.start(grant)).status == 204
        assert (await one.finish(grant["job"]["id"], exit_code=0)).status in {200, 204}
        queues.append(grant["job"]["queue"])
    return queues


async def test_a_slot_that_many_queues_could_fill_costs_one_delivery_for_each_grant(edge: Edge) -> None:
    """All queues have jobs, and the next one waits each time that the worker polls."""
    one = await worker_of(edge, MANY)
    for queue in MANY * 2:
        await publish(edge.broker, make_job(queue))
    queues = await work(one, 30)
    assert await deliveries(edge, MANY) <= 2 * len(queues)
    assert len(set(queues)) > 10, "no queue keeps the worker from the others"


async def test_a_deep_queue_does_not_keep_a_worker_from_its_other_queues(edge: Edge) -> None:
    one = await worker_of(edge, MANY)
    for queue in [*[MANY[0]] * 20, *MANY[1:3]]:
        await publish(edge.broker, make_job(queue))
    assert set(await work(one, 8)) == set(MANY[:3])


async def test_a_job_in_each_of_many_queues_at_once_costs_two_deliveries_for_each_grant(edge: Edge) -> None:
    """The poll waits at all of them: each may deliver one job in vain, once."""
    one = await worker_of(edge, MANY)
    for queue in MANY:
        await ensure_consumer(edge.broker, None, queue, JobKind.TASK)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(work(one, 1))
        for queue in MANY:
            await pulling(edge, queue)
        await asyncio.gather(*(publish(edge.broker, make_job(queue), consumer=False) for queue in MANY))
    queues = await first + await work(one, len(MANY) - 1)
    assert sorted(queues) == sorted(MANY)
    assert await deliveries(edge, MANY) <= 2 * len(queues)


async def test_a_burst_fills_the_slots_of_a_worker_of_two_queues(edge: Edge) -> None:
    one = await worker_of(edge, ("default", "other"))
    for _ in range(40):
        await publish(edge.broker)
    await ensure_consumer(edge.broker, None, "other", JobKind.TASK)
    found: list[dict[str, Any]] = []
    polls = 0
    while len(found) < 40:
        polls += 1
        reply = await one.poll(slots=40, free=40 - len(found))
        for grant in reply.json["grants"]:
            assert (await one.start(grant)).status == 204
            found.append(grant)
    assert polls <= 8, "the number that is requested at once grows"
    assert await deliveries(edge, ["default"]) == 40


async def test_polls_that_come_one_by_one_open_a_handful_of_pulls(edge: Edge) -> None:
    """Each of them is served all the same, on both replicas."""
    agents = [await agent(edge, replica=number % 2) for number in range(20)]
    await ensure_consumer(edge.broker, None, "default", JobKind.TASK)
    async with asyncio.TaskGroup() as group:
        polls = []
        for number, one in enumerate(agents):
            polls.append(group.create_task(one.poll()))
            await parked(edge, number // 2 + 1, replica=number % 2)
            await arrived(edge, one)
        await pulling(edge, "default", 2 * LANES)
        assert (await consumer(edge, "default"))["num_waiting"] == 2 * LANES
        jobs = {(await publish(edge.broker, consumer=False)).id for _ in agents}
        replies = [await poll for poll in polls]
    assert {reply.json["grants"][0]["job"]["id"] for reply in replies} == jobs
    assert await deliveries(edge, ["default"]) == len(jobs)


async def test_replicas_with_parked_polls_all_get_work(edge: Edge) -> None:
    """Also one with few polls next to one with many, from a trickle that the many could take alone."""
    agents = [await agent(edge, replica=min(number, 1)) for number in range(12)]
    await ensure_consumer(edge.broker, None, "default", JobKind.TASK)
    few = agents[0]
    async with asyncio.TaskGroup() as group:
        polls = {one: group.create_task(one.poll()) for one in agents}
        for one in agents:
            await arrived(edge, one)
        await pulling(edge, "default", 2)
        for number in range(1, 9):
            await publish(edge.broker, consumer=False)
            await eventually(partial(are_done, polls.values(), number))
        assert polls[few].done()
        assert are_done(polls.values(), 8)
        for poll in polls.values():
            poll.cancel()


async def test_what_no_poll_wants_any_more_goes_to_another_replica_and_not_back(edge: Edge) -> None:
    """The pull of a poll that has left is still open, for more than one job."""
    gone, other = await agent(edge), await agent(edge, replica=1)
    await ensure_consumer(edge.broker, None, "default", JobKind.TASK)
    left = asyncio.create_task(gone.poll(free=8))
    await pulling(edge, "default")
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    await parked(edge, 0)
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(other.poll())
        await pulling(edge, "default", 2)
        job = await publish(edge.broker, consumer=False)
        reply = await poll
    assert reply.json["grants"][0]["job"]["id"] == job.id
    assert await deliveries(edge, ["default"]) <= 2
