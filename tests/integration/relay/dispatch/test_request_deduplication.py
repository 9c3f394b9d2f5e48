"""Calls that come twice, because an answer was lost or a load balancer repeated them: late, or at the same moment."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from edge_broker.subjects import JOBS
from edge_schemas.life.events import ReportUserCode
from edge_schemas.life.model import JobState
from edge_schemas.wire import routes
from support.nats.server import eventually
from support.relay.agents import Agent, agent, both, metric, parked, publish
from support.relay.edge import Edge, Reply

QUEUE = {"team": "", "queue": "default"}


async def granted(edge: Edge) -> tuple[Agent, dict[str, Any]]:
    """A worker that was granted a job."""
    one = await agent(edge)
    await publish(edge.broker)
    [grant] = await one.grants()
    return one, grant


async def total(edge: Edge, name: str, **labels: str) -> float:
    """What both replicas have counted."""
    return metric(edge, name, {**QUEUE, **labels}) + metric(edge, name, {**QUEUE, **labels}, replica=1)


async def test_a_release_that_is_repeated_counts_once(edge: Edge) -> None:
    """Else three lost answers would put a job aside that two workers gave back.

    Nor does a start that comes late start it again, or take its message away.
    """
    one, grant = await granted(edge)
    replies = await both([one.release(grant, replica=replica) for replica in (0, 1, 0)])
    assert [reply.status for reply in replies] == [204, 204, 204]
    assert (await one.start(grant, replica=1)).code == "receipt_expired"
    [again] = await one.grants()
    assert (await one.release(again)).status == 204
    record = await edge.records.get(grant["job"]["id"])
    assert record is not None
    assert len(record.releases) == 2, "one for each grant"


async def test_starts_and_finishes_at_the_same_moment_happen_once(edge: Edge) -> None:
    one, grant = await granted(edge)
    job = grant["job"]["id"]
    replies = await both([one.start(grant, replica=n % 2) for n in range(4)])
    assert [reply.status for reply in replies] == [204] * 4
    assert await total(edge, "edge_relay_starts_total") == 1
    replies = await both([one.finish(job, replica=n % 2, exit_code=0) for n in range(4)])
    assert [reply.status for reply in replies] == [204] * 4
    assert await total(edge, "edge_relay_finishes_total", verdict="failed") == 1
    assert (await one.start(grant)).code == "job_ended", "a start that arrives after the end starts nothing"


async def test_jobs_are_given_back_once_however_often_it_is_said(edge: Edge) -> None:
    """By a load balancer, and by the worker itself, which makes a new request of each try."""
    one, grant = await granted(edge)
    job = grant["job"]["id"]
    assert (await one.start(grant)).status == 204
    calls = [one.finish(job, replica=n % 2, release=True, receipt=grant["receipt"]) for n in range(4)]
    assert [reply.status for reply in await both(calls)] == [204] * 4
    assert await total(edge, "edge_relay_started_releases_total") == 1
    assert (await one.start(grant)).code == "receipt_expired"
    record = await edge.records.get(job)
    assert record is not None
    assert (record.state, len(record.releases)) == (JobState.WAITING, 1)


@pytest.mark.parametrize("runs", [False, True])
async def test_a_finish_that_comes_late_does_not_end_a_later_hold(edge: Edge, *, runs: bool) -> None:
    """A replica that stood still reads it when another one has long answered the next try.

    By then the same worker may have the job anew: it would be taken from it, or end as failed while its user code runs.
    """
    one, grant = await granted(edge)
    job = grant["job"]["id"]
    assert (await one.start(grant)).status == 204
    assert (await one.finish(job, release=True, receipt=grant["receipt"])).status == 204
    record = await edge.records.get(job)
    assert record is not None
    assert record.job is not None
    await edge.broker.store(f"edge.jobs.-.default.{job}", record.job.model_dump_json().encode())
    [anew] = await one.grants()
    assert (await one.start(anew)).status == 204
    if runs:
        await edge.records.change(job, ReportUserCode(one.name, "h", 1, datetime.now(UTC)))
    for release in (True, False):
        late = await one.finish(job, replica=1, release=release, receipt=grant["receipt"])
        assert late.status == 204, "as the first time"
    assert [reply.status for reply in await both([one.start(grant, replica=n) for n in (0, 1)])] == [204, 204]
    record = await edge.records.get(job)
    assert record is not None
    assert (record.state, len(record.releases)) == (JobState.RUNNING, 1)
    assert (await one.finish(job, exit_code=0, receipt=anew["receipt"])).status == 204
    record = await edge.records.get(job)
    assert record is not None
    assert record.state is JobState.ENDED


async def test_another_workers_receipt_finishes_nothing(edge: Edge) -> None:
    one, grant = await granted(edge)
    two = await agent(edge)
    job = grant["job"]["id"]
    assert (await one.start(grant)).status == 204
    assert (await two.finish(job, receipt=grant["receipt"])).code == "forbidden"
    assert (await one.finish(job, receipt="forged")).code == "invalid_request"
    record = await edge.records.get(job)
    assert record is not None
    assert record.state is JobState.RUNNING


async def test_a_poll_that_is_repeated_while_it_is_parked_grants_once(edge: Edge) -> None:
    """The repeat takes over; the connection of the first one belongs to nobody any more, and takes no job along."""
    one = await agent(edge)
    body = one.report(poll_timeout_s=20)

    async def poll(replica: int) -> Reply:
        return await edge.call("POST", routes.POLL, one.secret, json=body, replica=replica)

    async with asyncio.TaskGroup() as group:
        polls = [group.create_task(poll(n % 2)) for n in range(4)]

        def turned_away() -> list[asyncio.Task[Reply]]:
            return [task for task in polls if task.done()]

        await eventually(lambda: len(turned_away()) == 3, what="three of four are superseded")
        assert {task.result().code for task in turned_away()} == {"superseded"}
        job = await publish(edge.broker)
    replies = [task.result() for task in polls]
    [grants] = [reply.json["grants"] for reply in replies if reply.status == 200]
    assert [grant["job"]["id"] for grant in grants] == [job.id]
    info = await edge.broker.api(f"STREAM.INFO.{JOBS}")
    assert info["state"]["messages"] == 1, "it waits for its start"


async def test_a_poll_that_is_repeated_after_it_was_answered_is_harmless(edge: Edge) -> None:
    one, grant = await granted(edge)
    assert (await one.start(grant)).status == 204
    assert (await one.poll(seq=one.seq, poll_timeout_s=0, replica=1)).status == 204
    newer = one.again()
    assert (await newer.poll(poll_timeout_s=0)).status == 204
    late = await one.poll(seq=one.seq, poll_timeout_s=0)
    assert (late.code, late.json["superseded_by"]) == ("superseded", newer.incarnation)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(newer.poll())
        await parked(edge, 1)
        assert (await one.poll(seq=one.seq, replica=1)).code == "superseded"
        assert not waiting.done()
        waiting.cancel()
