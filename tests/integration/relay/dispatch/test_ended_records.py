"""What a relay answers about a job whose record was moved to the ended ones: what it answered before."""

import asyncio
from datetime import UTC, datetime

from edge_broker.jetstream.stream_info import subjects_with_messages
from edge_broker.subjects import JOBS, RECORDS_BUCKET, job_subject, kv_stream
from edge_schemas.life.events import Withdraw
from edge_schemas.life.model import JobState
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import JobKind
from support.nats.server import eventually
from support.relay.agents import Agent, agent, publish
from support.relay.edge import Edge


async def _move(edge: Edge, job: str) -> None:
    await edge.records.move_ended(job)
    await edge.broker.api(f"STREAM.PURGE.{kv_stream(RECORDS_BUCKET)}")  # the mark's life is over


async def _dropped(worker: Agent, job: str) -> bool:
    reply = await worker.poll(free=0, poll_timeout_s=1, jobs=[{"id": job, "phase": "running"}])
    stops = reply.json["stop"] if reply.status == 200 else []
    return [(stop["job"], stop["drop"]) for stop in stops] == [(job, True)]


async def test_a_finished_job(edge: Edge) -> None:
    one, two = await agent(edge), await agent(edge, replica=1)
    job = await publish(edge.broker)
    [grant] = await one.grants()
    assert (await one.start(grant)).status == 204
    assert (await edge.put_log(job, one.worker, 0, b"first\n")).status == 200
    assert (await one.finish(job.id, exit_code=0)).status == 204
    before = await edge.records.get(job.id)
    await _move(edge, job.id)
    assert (await one.finish(job.id, exit_code=0, replica=1)).status == 204, "a repeat gets the same answer"
    assert (await one.start(grant)).code == "job_ended"
    assert (await one.release(grant)).code == "job_ended"
    assert (await two.finish(job.id, exit_code=0)).code == "job_ended"
    assert (await edge.put_log(job, one.worker, 6, b"last\n")).status == 200, "the log ends after the job"
    shown = await edge.admin("GET", routes.ADMIN_JOB.format(job=job.id))
    assert shown.json["record"]["outcome"]["verdict"] == "failed"
    order = {"jobs": [job.id], "reason": "late"}
    redriven = await edge.admin("POST", routes.ADMIN_JOB_ACTIONS, {**order, "action": {"do": "redrive"}})
    assert [one["code"] for one in redriven.json["failures"]] == ["job_ended"]
    cancelled = await edge.admin("POST", routes.ADMIN_JOB_ACTIONS, {**order, "action": {"do": "cancel"}})
    assert (cancelled.json["changed_count"], cancelled.json["unchanged_count"]) == (0, 1)
    assert await _dropped(one, job.id), "a worker that still reports it drops it"
    assert await edge.records.get(job.id) == before


async def test_a_withdrawn_job_whose_message_is_delivered_after_all(edge: Edge) -> None:
    """The executor that removes the message is down."""
    one = await agent(edge)
    job = await publish(edge.broker)
    await edge.records.change(job.id, Withdraw("marked failed", datetime.now(UTC)))
    await _move(edge, job.id)
    [grant] = await one.grants()
    assert (await one.start(grant)).code == "job_ended"

    async def gone() -> bool:
        return not await subjects_with_messages(edge.broker, JOBS, job_subject(None, "default", JobKind.TASK, job.id))

    await eventually(gone, what="the message is acknowledged")
    record = await edge.records.get(job.id)
    assert record is not None
    assert record.state is JobState.ENDED


async def test_many_calls_during_the_move(edge: Edge) -> None:
    """Start, finish and moves in any order: the worker is told one story."""
    one = await agent(edge)
    for _ in range(5):
        job = await publish(edge.broker)
        [grant] = await one.grants()
        assert (await one.start(grant)).status == 204
        calls = [one.finish(job.id, exit_code=0, replica=number % 2) for number in range(4)]
        moves = [edge.records.move_ended(job.id) for _ in range(4)]
        replies, _ = await asyncio.gather(asyncio.gather(*calls), asyncio.gather(*moves))
        assert [reply.status for reply in replies] == [204] * 4
        await edge.records.move_ended(job.id)
        assert (await one.finish(job.id, exit_code=0)).status == 204
        assert (await one.start(grant)).code == "job_ended"
