"""Figures while jobs come, are granted, start and end; and many workers and jobs."""

import asyncio
from typing import Any

import pytest

from edge_broker.jetstream.consumer_info import consumer_info
from edge_broker.layout import ensure_consumer
from edge_broker.subjects import JOBS
from edge_schemas.life.model import JobState
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import JobKind
from support.nats.server import eventually
from support.relay.agents import Agent, agent, publish
from support.relay.crowd import QUEUES, SITES, fill
from support.relay.edge import Edge
from support.relay.fleet import listed


async def _work(worker: Agent, rounds: int) -> None:
    """Takes jobs; each third stays granted, each third runs on, the others end."""
    for number in range(rounds):
        [grant] = await worker.grants()
        if number % 3 == 0:
            continue
        assert (await worker.start(grant)).status == 204
        if number % 3 == 1:
            assert (await worker.finish(grant["job"]["id"], exit_code=0)).status == 204


async def _watch(edge: Edge, replica: int, stop: asyncio.Event) -> int:
    """No figure is ever impossible while everything moves."""
    seen = 0
    while not stop.is_set():
        for row in await listed(edge, routes.ADMIN_QUEUES, replica=replica, queue="default"):
            assert min(row["waiting"], row["granted"], row["running"], row["held_back"]) >= 0
            assert row["waiting"] + row["granted"] + row["running"] + row["held_back"] <= 60
            seen += 1
    return seen


async def test_figures_equal_consumer_and_records_under_load(edge: Edge) -> None:
    await ensure_consumer(edge.broker, None, "default", JobKind.TASK)
    workers = [await agent(edge, replica=number % 2) for number in range(4)]
    stop = asyncio.Event()

    async def come() -> None:
        for number in range(60):
            await (publish(edge.broker) if number % 4 else edge.job())

    async with asyncio.TaskGroup() as group:
        watching = [group.create_task(_watch(edge, replica, stop)) for replica in (0, 1)]
        async with asyncio.TaskGroup() as load:
            load.create_task(come())
            for worker in workers:
                load.create_task(_work(worker, 9))
        stop.set()
    assert all(task.result() > 1 for task in watching)
    info = await consumer_info(edge.broker, JOBS, "default")
    assert info is not None

    async def figures(replica: int) -> tuple[Any, ...]:
        [row] = await listed(edge, routes.ADMIN_QUEUES, replica=replica, queue="default")
        return tuple(row[name] for name in ("waiting", "granted", "running", "held_back"))

    for replica in (0, 1):

        async def is_exact(replica: int = replica) -> bool:
            # 45 messages, 36 grants: 12 stay granted, 12 run, 12 have ended.
            return await figures(replica) == (9, 12, 12, 15)

        await eventually(is_exact, what="the figures are exact")
        rows = await listed(edge, routes.ADMIN_JOBS, replica=replica, limit=1000)
        states = [row["state"] for row in rows]
        assert (states.count("waiting"), states.count("running")) == (9 + 12 + 15, 12)
    info = await consumer_info(edge.broker, JOBS, "default")
    assert info is not None
    assert (info["num_pending"], info["num_ack_pending"]) == (9, 12)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("workers", "jobs"), [(1_000, 5_000), pytest.param(10_000, 50_000, marks=pytest.mark.soak)])
async def test_many_workers_and_jobs_are_answered(edge: Edge, workers: int, jobs: int) -> None:
    """Put into the memory of the replica as the watches would."""
    await listed(edge, routes.ADMIN_WORKERS)
    await fill(edge.relays[0].parts, workers=workers, jobs=jobs)
    found = await edge.admin("GET", f"{routes.ADMIN_WORKERS}?sort=-hostname&limit=1000")
    assert (found.json["total"], len(found.json["items"])) == (workers, 1000)
    found = await edge.admin("GET", f"{routes.ADMIN_JOBS}?sort=-waits_since&state={JobState.WAITING}")
    assert (found.json["total"], len(found.json["items"])) == (jobs, 100)
    sites = await listed(edge, routes.ADMIN_SITES, limit=1000)
    assert [row["workers"] for row in sites] == [workers // SITES] * SITES
    queues = {row["queue"]: row for row in await listed(edge, routes.ADMIN_QUEUES)}
    assert queues["default"]["free_slots"] == 2 * workers
    assert (queues["q1"]["held_back"], queues["q1"]["workers_able"]) == (jobs // QUEUES, workers // QUEUES)
    assert (await edge.admin("GET", routes.ADMIN_OVERVIEW)).json["held_back"] == jobs
