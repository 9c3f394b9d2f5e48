"""A NATS that is away for longer than any single call waits: parked polls do not notice."""

import asyncio
import os
import signal
import time
from typing import Any

import pytest

from edge_broker.layout import ensure_consumer
from edge_schemas.wire.jobs import JobKind
from support.nats.server import eventually
from support.relay.agents import Agent, agent, arrived, publish
from support.relay.edge import Edge

OUTAGE_S = 20.0


async def test_an_answer_to_a_ping_that_nobody_waits_for_any_more(edge: Edge) -> None:
    """It comes late from a server that stood still; nats-py alone stops reading at it, without a word."""
    client = edge.broker._supervisor.require_client()
    given_up: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    given_up.cancel()
    await client._send_ping(given_up)
    await client.flush(timeout=5)
    assert (await edge.broker.api("STREAM.INFO.EDGE_JOBS"))["config"]["name"] == "EDGE_JOBS"


@pytest.mark.soak
@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_parked_polls_outlast_an_outage_of_twenty_seconds(edge: Edge, how: str) -> None:
    """None of them is answered with an error, and each is granted a job afterwards."""
    agents = [await agent(edge, replica=n % 2) for n in range(6)]
    await ensure_consumer(edge.broker, None, "default", JobKind.TASK)
    async with asyncio.TaskGroup() as group:
        polls = [group.create_task(one.poll(poll_timeout_s=50)) for one in agents]
        for one in agents:
            await arrived(edge, one)
        pid = edge.server.pid
        if how == "killed":
            await edge.server.stop(kill=True)
        else:
            os.kill(pid, signal.SIGSTOP)
        ended, _ = await asyncio.wait(polls, timeout=OUTAGE_S, return_when=asyncio.FIRST_COMPLETED)
        if how == "killed":
            await edge.server.start()
        else:
            os.kill(pid, signal.SIGCONT)
        assert not ended, [poll.result() for poll in ended]
        await edge.broker.wait_connected(20)
        jobs = {await published(edge) for _ in agents}
        replies = [await poll for poll in polls]
    granted = [reply.json["grants"][0] for reply in replies]
    assert {grant["job"]["id"] for grant in granted} == jobs
    for one, grant in zip(agents, granted, strict=True):
        assert (await one.start(grant)).status == 204


@pytest.mark.soak
@pytest.mark.timeout(120)
async def test_polls_that_come_during_an_outage_are_told_to_come_again(edge: Edge) -> None:
    """A hold that ends meanwhile is a plain 204; the next poll can't arrive, which is no contact, and is repeatable."""
    one = await agent(edge)
    await ensure_consumer(edge.broker, None, "default", JobKind.TASK)
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(one.poll(poll_timeout_s=3))
        await arrived(edge, one)
        await edge.server.stop(kill=True)
        assert (await poll).status == 204
    began = time.monotonic()
    refused = await one.poll()
    assert (refused.status, refused.code, refused.json["retryable"]) == (503, "broker_unavailable", True)
    assert time.monotonic() - began > 5, "a leader's change is waited for"
    await edge.server.start()
    await edge.broker.wait_connected(20)
    job = await published(edge)
    [grant] = await eventually(lambda: _granted(one), timeout_s=20, what="a grant after the outage")
    assert grant["job"]["id"] == job


async def published(edge: Edge) -> str:
    """The id of a new job."""
    return (await publish(edge.broker)).id


async def _granted(one: Agent) -> list[dict[str, Any]]:
    reply = await one.poll(poll_timeout_s=5)
    return list(reply.json["grants"]) if reply.status == 200 else []
