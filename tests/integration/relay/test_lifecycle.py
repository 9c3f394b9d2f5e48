"""Readiness, stopping, and a process that gets signals."""

import asyncio
import signal
from pathlib import Path

import aiohttp
import pytest

from edge_broker.layout import ensure_consumer
from edge_relay import readiness
from edge_schemas.wire.jobs import JobKind
from support.nats.server import eventually
from support.relay.agents import Agent, agent, both, parked, publish, pulling
from support.relay.edge import Edge, running_edge
from support.relay.relay_process import relay_process


async def test_a_stopping_replica_sends_its_workers_to_the_other_one(edge: Edge) -> None:
    """Nobody loses a job: what is under way to the stopping replica is served by the other at once."""
    one = await agent(edge)
    await ensure_consumer(edge.broker, None, "default", JobKind.TASK)
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(one.poll(free=8))
        await pulling(edge, "default")
        edge.relays[0].parts.lifecycle.stop()
        reply = await poll
    assert (reply.status, reply.code) == (503, "draining")
    assert reply.headers["Retry-After"] == "1"
    assert (await edge.call("GET", "/readyz")).code == "draining"
    assert (await one.poll()).code == "draining"
    await ready(edge, replica=1)
    job = await publish(edge.broker)
    [grant] = await one.grants(replica=1)
    assert grant["job"]["id"] == job.id
    assert (await one.start(grant, replica=0)).status == 204, "what is no new work is still served"


async def test_ready_only_with_all_streams(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "LAYOUT_FOR_S", 0.0)
    await ready(edge)
    await edge.broker.api("STREAM.DELETE.EDGE_LOGS")
    for relay in edge.relays:
        # What it has found before the test.
        monkeypatch.setattr(relay.parts.readiness, "_layout_good_until", 0.0)
    for replica in (0, 1):
        reply = await edge.call("GET", "/readyz", replica=replica)
        assert reply.code == "broker_unavailable"
        assert "EDGE_LOGS" not in reply.json["detail"]
        told = await edge.call("GET", "/readyz", replica=replica, operators=True)
        assert told.code == "broker_unavailable"
        assert "EDGE_LOGS" in told.json["detail"]


async def test_a_relay_that_starts_before_its_broker(tmp_path: Path) -> None:
    """It is alive but not ready, and serves as soon as the broker is there."""
    async with running_edge(tmp_path) as edge:
        await edge.server.stop(kill=True)
        async with (
            relay_process(edge, tmp_path / "second", answers="/healthz") as (process, url),
            aiohttp.ClientSession() as session,
        ):
            async with session.get(f"{url}/healthz") as answer:
                assert answer.status == 200
            async with session.get(f"{url}/readyz") as answer:
                assert answer.status == 503
                assert (await answer.json())["code"] == "broker_unavailable"
            await edge.server.start()

            async def is_ready() -> bool:
                async with session.get(f"{url}/readyz") as answer:
                    return answer.status == 200

            await eventually(is_ready, what="ready")
            assert process.returncode is None


async def test_sigterm_answers_parked_polls_and_loses_nothing(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        await ensure_consumer(edge.broker, None, "default", JobKind.TASK)
        worker = await edge.worker()
        async with relay_process(edge, tmp_path / "second") as (process, url), aiohttp.ClientSession() as session:
            body = Agent(edge, worker).report(free=8)
            headers = {"Authorization": f"Bearer {worker.secret}"}
            async with asyncio.TaskGroup() as group:
                poll = group.create_task(session.post(f"{url}/v1/poll", json=body, headers=headers).__aenter__())
                await pulling(edge, "default")
                process.send_signal(signal.SIGTERM)
                answer = await poll
            assert answer.status == 503
            assert (await answer.json())["code"] == "draining"
            async with asyncio.timeout(10):
                assert await process.wait() == 0
        job = await publish(edge.broker)
        one = await agent(edge)
        [grant] = await one.grants()
        assert grant["job"]["id"] == job.id


@pytest.mark.parametrize("killed", [True, False])
async def test_jobs_survive_replicas_that_come_and_go(tmp_path: Path, killed: bool) -> None:
    """A replica leaves, or is killed, while jobs are published; each job is started exactly once."""
    async with running_edge(tmp_path) as edge:
        one = await agent(edge)
        jobs = [await publish(edge.broker) for _ in range(10)]
        started: list[str] = []
        async with relay_process(edge, tmp_path / "second") as (process, _):
            for grant in await one.grants(3):
                assert (await one.start(grant)).status == 204
                started.append(grant["job"]["id"])
            process.send_signal(signal.SIGKILL if killed else signal.SIGTERM)
            await process.wait()
        for grant in await one.grants(7):
            assert (await one.start(grant)).status == 204
            started.append(grant["job"]["id"])
        assert sorted(started) == sorted(job.id for job in jobs)


async def test_a_slow_call_may_end_while_the_relay_stops(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge:
        one = await agent(edge)
        await publish(edge.broker)
        [grant] = await one.grants()
        polling = asyncio.create_task(one.poll(free=0))
        await parked(edge, 1)
        edge.relays[0].parts.lifecycle.stop()
        replies = await both([one.start(grant), polling])
        assert [reply.status for reply in replies] == [204, 503]


async def ready(edge: Edge, *, replica: int = 0) -> None:
    """Wait until a replica says that it can serve."""

    async def says_so() -> bool:
        reply = await edge.call("GET", "/readyz", replica=replica)
        return (reply.status, reply.json) == (200, {"status": "ok"})

    await eventually(says_so, what="ready")
