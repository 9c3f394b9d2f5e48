"""Directives come from a watch of the records; a record is read only where it may need a directive."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edge_broker.subjects import RECORDS_BUCKET, kv_stream, worker_notice
from edge_schemas.life.events import Start, Withdraw
from support.nats.server import eventually
from support.network.link import Cut
from support.relay.agents import Agent, agent, metric, parked, publish
from support.relay.edge import Edge, running_edge

WORKERS, JOBS = 20, 25


class Reads:
    """What a replica reads through the leaders of streams."""

    def __init__(self, edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of: Counter[str] = Counter()
        self._api = edge.relays[0].parts.broker.api
        monkeypatch.setattr(edge.relays[0].parts.broker, "api", self._count)

    @property
    def records(self) -> int:
        """Of records, wherever they are asked for."""
        return self.of[f"STREAM.MSG.GET.{kv_stream(RECORDS_BUCKET)}"]

    async def _count(self, call: str, *args: Any) -> Any:
        self.of[call] += 1
        return await self._api(call, *args)


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    """One replica, whose connection to NATS can be cut."""
    async with running_edge(tmp_path, linked=True) as running:
        yield running


@pytest.fixture
def reads(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(edge, monkeypatch)


async def running(edge: Edge, one: Agent, number: int) -> list[dict[str, str]]:
    """The report of new jobs that run on a worker, once the mirror shows them."""
    jobs = [(await edge.job()).id for _ in range(number)]
    for job in jobs:
        await edge.records.change(job, Start(one.name, 1, datetime.now(UTC)))
    mirror = edge.relays[0].parts.mirror
    await eventually(lambda: all((seen := mirror.get(job)) and seen.holder == one.name for job in jobs))
    return [{"id": job, "phase": "running"} for job in jobs]


async def stop(edge: Edge, job: str) -> None:
    """Let a running job be stopped, without a notice."""
    await edge.records.change(job, Withdraw("cleared", datetime.now(UTC)))


async def test_a_poll_with_nothing_new_reads_no_record(edge: Edge, reads: Reads) -> None:
    one = await agent(edge)
    report = await running(edge, one, 100)
    for _ in range(5):
        assert (await one.poll(jobs=report, poll_timeout_s=0)).status == 204
    assert reads.records == 0


async def test_a_stop_that_nobody_announces_reaches_a_parked_poll(edge: Edge, reads: Reads) -> None:
    """The keeper that wrote it died before its notice."""
    one = await agent(edge)
    report = await running(edge, one, 3)
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(one.poll(jobs=report))
        await parked(edge, 1)
        await stop(edge, report[1]["id"])
        reply = await poll
    assert reply.json["stop"] == [{"job": report[1]["id"], "reason": "cleared", "drop": False}]
    assert reads.records == 1


async def test_many_stops_are_told_in_few_answers(edge: Edge, reads: Reads) -> None:
    one = await agent(edge)
    report = await running(edge, one, JOBS)
    for job in report:
        await stop(edge, job["id"])
    reply = await one.poll(jobs=report)
    assert len(reply.json["stop"]) == JOBS
    assert reads.records == JOBS


async def test_after_a_cut_of_nats_only_what_has_changed_is_read(edge: Edge, reads: Reads) -> None:
    """Twice: a replica that needed longer for each cut than before would never recover."""
    agents = [await agent(edge) for _ in range(WORKERS)]
    reports = {one: await running(edge, one, JOBS) for one in agents}
    for number in range(2):
        async with asyncio.TaskGroup() as group:
            polls = {one: group.create_task(one.poll(jobs=reports[one])) for one in agents}
            await parked(edge, WORKERS)
            await eventually(lambda: all(poll.known for poll in all_polls(edge)), what="all have arrived")
            records, entries = reads.records, metric(edge, "edge_relay_state_reads_total", {"kind": "entry"})
            await edge.nats_link.cut(Cut.REFUSE)
            for one in agents:
                await stop(edge, reports[one][number]["id"])
            await edge.nats_link.restore()
            replies = {one: await poll for one, poll in polls.items()}
        for one, reply in replies.items():
            assert [told["job"] for told in reply.json["stop"]] == [reports[one][number]["id"]]
            reports[one][number]["phase"] = "finishing"
        assert reads.records - records == WORKERS
        assert metric(edge, "edge_relay_state_reads_total", {"kind": "entry"}) == entries, "no entry has changed"
    assert metric(edge, "edge_relay_state_reads_queued") == 0


def all_polls(edge: Edge) -> list[Any]:
    """The parked polls of the first replica."""
    return [poll for polls in edge.relays[0].parts.polls._by_worker.values() for poll in polls]


async def test_a_watch_that_is_behind_makes_no_directive(
    edge: Edge, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await agent(edge)
    monkeypatch.setattr(edge.relays[0].parts.mirror.watched, "_listeners", [])
    job = await publish(edge.broker)
    [grant] = await one.grants()
    assert (await one.start(grant)).status == 204
    report = [{"id": job.id, "phase": "running"}]
    read = reads.records
    assert (await one.poll(jobs=report, free=0, poll_timeout_s=0)).status == 204
    assert reads.records == read + 1, "unknown to the watch, so it was read"
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(one.poll(jobs=report, free=0))
        await parked(edge, 1)
        await stop(edge, job.id)
        await edge.broker.publish(worker_notice(one.name))
        reply = await poll
    assert reply.json["stop"] == [{"job": job.id, "reason": "cleared", "drop": False}]


async def test_while_the_records_are_listed_polls_wait_without_a_read(edge: Edge, reads: Reads) -> None:
    one, other = await agent(edge), await agent(edge)
    report = await running(edge, other, 1)
    mirror = edge.relays[0].parts.mirror
    mirror.watched.complete.clear()
    assert metric(edge, "edge_relay_records_current") == 0
    assert (await one.poll(jobs=report, free=0, poll_timeout_s=0.2)).status == 204
    assert reads.records == 0
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(one.poll(jobs=report, free=0))
        await parked(edge, 1)
        mirror.watched.complete.set()
        mirror._completed()
        reply = await poll
    assert reply.json["stop"] == [{"job": report[0]["id"], "reason": "another worker holds the job", "drop": True}]


async def test_the_end_that_a_worker_reports_is_not_told_to_it(edge: Edge, reads: Reads) -> None:
    one = await agent(edge)
    report = await running(edge, one, 2)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(one.poll(jobs=report, free=0))
        await parked(edge, 1)
        assert (await one.finish(report[0]["id"], exit_code=0)).status == 204
        finished = reads.records
        assert (await one.poll(jobs=report[1:], free=0, poll_timeout_s=1)).status == 204
        assert (await first).code == "superseded"
    assert reads.records == finished
