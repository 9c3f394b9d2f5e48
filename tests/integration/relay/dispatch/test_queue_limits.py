"""`max_running` of a queue is one limit over jobs of Airflow and submitted ones, however they reach the workers."""

import asyncio
from typing import Any

import pytest

from edge_schemas.wire import routes
from edge_schemas.wire.jobs import JobKind
from support.nats.server import eventually
from support.nats.submitted import submit
from support.relay.agents import Agent, agent, publish
from support.relay.edge import Edge
from support.relay.jobs import command_job, make_auxiliary_job

MOST = 3
EACH = 6


@pytest.fixture
async def limited(edge: Edge) -> Edge:
    """Two replicas; both know the limit."""
    body = {"action": {"do": "set", "max_running": MOST}, "queues": [{"queue": "default"}], "reason": "licences"}
    assert (await edge.admin("POST", routes.ADMIN_QUEUE_ACTIONS, body)).json["changed"] == ["default"]
    limits = [relay.parts.queue_limits for relay in edge.relays]
    known = {MOST}
    await eventually(lambda: {one.left("default", JobKind.TASK) for one in limits} == known, what="both know")
    return edge


class Peak:
    """How many jobs ran at once at most, in the order in which NATS has stored the changes."""

    def __init__(self, edge: Edge) -> None:
        self.most = 0
        self._limits = edge.relays[0].parts.queue_limits
        edge.relays[0].parts.mirror.on_record(lambda *_: self._count())

    def _count(self) -> None:
        left = self._limits.left("default", JobKind.TASK)
        assert left is not None
        self.most = max(self.most, self._limits._held["default"])


async def workers(edge: Edge, number: int) -> list[tuple[Agent, str]]:
    """Half of them for tasks, half for commands, and of each half some at each replica."""
    found = [await agent(edge, replica=number % 2) for number in range(number)]
    return [(one, ("task", "command")[index // 2 % 2]) for index, one in enumerate(found)]


async def offered(one: Agent, kind: str) -> dict[str, Any] | None:
    """A grant, if the worker gets one soon."""
    reply = await one.poll(kinds=[kind], poll_timeout_s=2)
    grant: dict[str, Any] | None = reply.json["grants"][0] if reply.status == 200 else None
    return grant


async def test_of_jobs_that_start_at_the_same_moment_no_more_than_the_limit_succeed(limited: Edge) -> None:
    """Tasks and commands, granted by two replicas while none of them ran."""
    peak = Peak(limited)
    for _ in range(EACH):
        await publish(limited.broker)
        await submit(limited, command_job())
    all_workers = await workers(limited, 2 * EACH)
    grants = await asyncio.gather(*(offered(*one) for one in all_workers))
    granted = [(one, grant) for (one, _), grant in zip(all_workers, grants, strict=True) if grant is not None]
    assert len(granted) > MOST
    assert {("task" in grant["job"]["work"]) for _, grant in granted} == {True, False}
    replies = await asyncio.gather(*(one.start(grant) for one, grant in granted))
    assert sorted({reply.status for reply in replies}) == [204, 409]
    assert sum(reply.status == 204 for reply in replies) == peak.most == MOST
    assert {reply.code for reply in replies if reply.status == 409} == {"receipt_expired"}
    one, grant = next(pair for pair, reply in zip(granted, replies, strict=True) if reply.status == 204)
    assert (await one.finish(grant["job"]["id"], exit_code=0)).status in {200, 204}
    [following] = await one.grants(kinds=["task", "command"])
    assert (await one.start(following)).status == 204
    assert peak.most == MOST


async def test_a_queue_at_its_limit_is_worked_off(limited: Edge) -> None:
    """By more workers than may run jobs: each end lets the next job start, of either kind."""
    peak = Peak(limited)
    jobs = set()
    for _ in range(2 * EACH):
        jobs |= {(await publish(limited.broker)).id, (await submit(limited, command_job())).id}
    done: set[str] = set()

    async def work(one: Agent, kind: str) -> None:
        while len(done) < len(jobs):
            grant = await offered(one, kind)
            if grant is not None and (await one.start(grant)).status == 204:
                job = grant["job"]["id"]
                assert (await one.finish(job, exit_code=0)).status in {200, 204}
                done.add(job)

    await asyncio.gather(*(work(*one) for one in await workers(limited, 8)))
    assert done == jobs
    assert peak.most == MOST


async def test_a_full_queue_is_not_asked_for_jobs_but_for_callbacks(limited: Edge) -> None:
    """Callbacks count, but wait for nothing. A raised limit is noticed at once."""
    one = await agent(limited)
    for _ in range(MOST + 1):
        await publish(limited.broker)
    for grant in await one.grants(MOST):
        assert (await one.start(grant)).status == 204
    assert (await one.poll(poll_timeout_s=1)).status == 204
    callback = await publish(limited.broker, make_auxiliary_job("default"))
    [grant] = await one.grants(auxiliary=["callback"])
    assert grant["job"]["id"] == callback.id
    assert (await one.start(grant)).status == 204
    waits = asyncio.create_task(one.grants())
    body = {"action": {"do": "set", "max_running": None}, "queues": [{"queue": "default"}], "reason": "more licences"}
    assert (await limited.admin("POST", routes.ADMIN_QUEUE_ACTIONS, body)).json["changed"] == ["default"]
    [last] = await waits
    assert (await one.start(last)).status == 204
