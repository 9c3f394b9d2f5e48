"""A worker that takes jobs and starts none does not keep a queue from the others, and recovers when it starts one."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from edge_relay.limits import unstarted_grants
from support.relay.agents import Agent, agent, metric, publish
from support.relay.edge import Edge, running_edge

WAIT_S = 2
"""Instead of 30 s, here and in the consumers."""


@pytest.fixture
async def edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Edge]:
    """Two replicas; grants run out soon."""
    monkeypatch.setattr("edge_broker.layout.GRANT_WAIT_S", WAIT_S)
    monkeypatch.setattr("edge_relay.dispatch.grants.GRANT_WAIT_S", WAIT_S)
    monkeypatch.setattr(unstarted_grants, "GRANT_WAIT_S", WAIT_S)
    monkeypatch.setattr(unstarted_grants, "FIRST_PAUSE_S", 3.0)
    async with running_edge(tmp_path, replicas=2, unstarted_grants=16) as running:
        yield running


def grants_of(reply: Any) -> list[dict[str, Any]]:
    assert reply.status in {200, 204}, reply.body
    return list(reply.json["grants"]) if reply.status == 200 else []


async def hoard(one: Agent, taken: Counter[str]) -> None:
    while True:
        reply = await one.poll(slots=1024, free=1024, poll_timeout_s=1)
        taken[one.name] += len(grants_of(reply))


async def work(one: Agent, taken: Counter[str], jobs: int) -> None:
    while taken[one.name] < jobs:
        for grant in grants_of(await one.poll(free=1, poll_timeout_s=1)):
            if (await one.start(grant)).status == 204:
                taken[one.name] += 1
                await one.finish(grant["job"]["id"], incarnation=one.incarnation, receipt=grant["receipt"])


async def test_others_get_the_jobs_of_a_queue(edge: Edge) -> None:
    for _ in range(60):
        await publish(edge.broker)
    hoarder, good = await agent(edge), await agent(edge)
    taken: Counter[str] = Counter()
    with capture_logs() as logs:
        hoarding = asyncio.create_task(hoard(hoarder, taken))
        async with asyncio.timeout(40):
            await work(good, taken, 59)
        hoarding.cancel()
        with suppress(asyncio.CancelledError):
            await hoarding
    assert taken[hoarder.name] <= 16 + 6
    [first, *_] = [line for line in logs if line["event"] == "grants_ran_out"]
    assert (first["log_level"], first["worker"], first["at_once"]) == ("warning", hoarder.name, 1)
    assert metric(edge, "edge_relay_limited_total", {"limit": "unstarted_grants"}) > 0


@pytest.mark.parametrize("elsewhere", [False, True], ids=["the same replica", "another replica"])
async def test_a_worker_that_starts_again_gets_all_it_asks_for_again(edge: Edge, elsewhere: bool) -> None:
    """As after a cut of its link. Its starts may reach a replica that did not grant the jobs."""
    for _ in range(40):
        await publish(edge.broker)
    one = await agent(edge)
    assert len(await one.grants(8)) == 8
    await asyncio.sleep(WAIT_S + 0.1)
    running: list[str] = []
    sizes: list[int] = []
    async with asyncio.timeout(30):
        while len(running) < 40:
            jobs = [{"id": job, "phase": "running"} for job in running]
            granted = grants_of(await one.poll(slots=1024, free=16, poll_timeout_s=0.5, jobs=jobs))
            sizes.append(len(granted))
            for grant in granted:
                assert (await one.start(grant, replica=int(elsewhere))).status == 204
                running.append(grant["job"]["id"])
    assert sizes[0] == 1
    assert max(sizes) > 4
    assert len(sizes) < 20


async def test_a_worker_gets_no_more_than_it_may_leave_unstarted(edge: Edge) -> None:
    """Before it has started any; what it starts makes room."""
    for _ in range(40):
        await publish(edge.broker)
    one = await agent(edge)
    granted: list[dict[str, Any]] = []
    for _ in range(4):
        granted += grants_of(await one.poll(slots=100, free=100, poll_timeout_s=0.2))
    assert len(granted) == 16
    for grant in granted[:10]:
        assert (await one.start(grant)).status == 204
    more = []
    for _ in range(3):
        more += grants_of(await one.poll(slots=100, free=90, poll_timeout_s=0.2))
    assert len(more) == 10


async def test_what_was_released_through_another_replica_has_not_run_out(edge: Edge) -> None:
    """Some of the jobs come back to the worker, some go to another one, before the grants would have run out."""
    for _ in range(8):
        await publish(edge.broker)
    one, other = await agent(edge), await agent(edge)
    granted = await one.grants(8)
    for grant in granted:
        assert (await one.release(grant, counted=False, replica=1)).status == 204
    with capture_logs() as logs:
        again: list[str] = []
        async with asyncio.timeout(20):
            while len(again) < 8:
                taker = other if len(again) < 4 else one
                for grant in grants_of(await taker.poll(slots=8, free=1, poll_timeout_s=1)):
                    assert (await taker.start(grant, replica=1)).status == 204
                    again.append(grant["job"]["id"])
        table = edge.relays[0].parts.limits.unstarted
        async with asyncio.timeout(4 * WAIT_S):
            while table._workers:
                for worker in (one, other):
                    assert (await worker.poll(free=0, poll_timeout_s=0.1)).status in {200, 204}
    assert not [line for line in logs if line["event"] == "grants_ran_out"]
