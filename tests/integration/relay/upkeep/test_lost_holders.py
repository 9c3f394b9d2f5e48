"""Submitted jobs whose worker is lost: given up once by two replicas, without a keeper."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from edge_broker.subjects import AUDIT
from edge_schemas.life.model import JobState, Verdict
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import Job
from edge_schemas.wire.offline import MIN_TOLERANCE_S
from support.nats.submitted import has_message, reaches, record_of, submit
from support.relay.agents import Agent, agent, arrived, metric
from support.relay.edge import Edge
from support.relay.jobs import command_job, payload_job

KINDS = ["payload", "command"]


async def started(edge: Edge, worker: Agent, *jobs: Job) -> None:
    """The worker has started these jobs, and its last poll names them."""
    wanted = {job.id for job in jobs}
    while wanted:
        grants = await worker.grants(len(wanted), kinds=KINDS, jobs=_named(jobs, wanted))
        for grant in grants:
            assert (await worker.start(grant)).status == 204
            wanted.discard(grant["job"]["id"])
    poll = asyncio.create_task(worker.poll(kinds=KINDS, free=0, jobs=_named(jobs, wanted), poll_timeout_s=5))
    await arrived(edge, worker)
    poll.cancel()
    await asyncio.wait({poll})


def _named(jobs: tuple[Job, ...], without: set[str]) -> list[dict[str, str]]:
    return [{"id": job.id, "phase": "running"} for job in jobs if job.id not in without]


async def given_up(edge: Edge, job: Job) -> list[dict[str, Any]]:
    """What the audit stream says of the give-ups of a job."""
    last = (await edge.broker.api(f"STREAM.INFO.{AUDIT}"))["state"]["last_seq"]
    calls = [orjson.dumps({"seq": number}) for number in range(1, last + 1)]
    found = [orjson.loads((await edge.broker.request(f"$JS.API.DIRECT.GET.{AUDIT}", call)).data) for call in calls]
    return [event for event in found if event["target"] == job.id and event["action"] == "job-given-up"]


@pytest.mark.slow
async def test_jobs_of_a_silent_worker(edge: Edge) -> None:
    """After its tolerance, a payload waits again, a command has failed, and one without attempts is parked."""
    again = await submit(edge, payload_job(tolerance_s=MIN_TOLERANCE_S))
    lost = await submit(edge, command_job(tolerance_s=MIN_TOLERANCE_S))
    last = await submit(edge, payload_job(tolerance_s=MIN_TOLERANCE_S, max_attempts=1))
    tolerant = await submit(edge, payload_job())
    worker = await agent(edge)
    await started(edge, worker, again, lost, last, tolerant)
    silent_since = datetime.now(UTC)
    record = await reaches(edge.records, lost, lambda record: record.state is JobState.ENDED, timeout_s=20)
    assert record.outcome is not None
    assert record.outcome.verdict is Verdict.LOST
    assert MIN_TOLERANCE_S - 2 < (record.outcome.ended_at - silent_since).total_seconds() < MIN_TOLERANCE_S + 4
    parked = await reaches(edge.records, last, lambda record: record.parked is not None)
    assert str(parked.parked).startswith("attempt 1 of 1 ended: no contact with worker")
    await reaches(edge.records, again, lambda record: record.state is JobState.WAITING)
    await has_message(edge, again)
    other = await agent(edge, replica=1)
    [grant] = await other.grants(kinds=KINDS)
    assert (grant["job"]["id"], grant["job"]["attempt"]) == (again.id, 2)
    assert (await other.start(grant)).status == 204
    assert (await worker.finish(again.id, exit_code=0)).code == "not_holder", "the first worker is too late"
    assert (await record_of(edge.records, tolerant)).state is JobState.RUNNING
    for job in (again, lost, last):
        [event] = await given_up(edge, job)
        assert event["actor"]["name"] in {"relay relay-0", "relay relay-1"}
    counted = [metric(edge, "edge_relay_give_ups_total", {"reason": "silence"}, replica=n) for n in (0, 1)]
    assert sum(counted) == 3
    await _redrive(edge, last)
    [grant] = await other.grants(kinds=KINDS, jobs=_named((again,), set()))
    assert (grant["job"]["id"], grant["job"]["attempt"]) == (last.id, 1)


async def _redrive(edge: Edge, job: Job) -> None:
    request = {"action": {"do": "redrive"}, "jobs": [job.id], "reason": "a test"}
    reply = await edge.admin("POST", routes.ADMIN_JOB_ACTIONS, request)
    assert reply.json["changed"] == [job.id], reply.body


async def test_jobs_that_a_restarted_worker_came_back_without(edge: Edge) -> None:
    """At once: its older agent was on the same machine. What the new agent names, it keeps."""
    gone, kept = await submit(edge, payload_job()), await submit(edge, payload_job())
    worker = await agent(edge)
    await started(edge, worker, gone, kept)
    newer = worker.again()
    poll = asyncio.create_task(newer.poll(free=0, kinds=KINDS, jobs=_named((kept,), set()), poll_timeout_s=5))
    record = await reaches(edge.records, gone, lambda record: record.state is JobState.WAITING)
    assert record.releases[-1].reason == f"worker {worker.name} came back without the job: its agent was restarted"
    await has_message(edge, gone)
    assert (await record_of(edge.records, kept)).state is JobState.RUNNING
    assert len(await given_up(edge, gone)) == 1
    poll.cancel()
    await asyncio.wait({poll})


@pytest.mark.slow
async def test_silence_while_nats_is_down_costs_no_job(edge: Edge) -> None:
    """The worker could not be heard: after the restart it has its whole tolerance again."""
    job = await submit(edge, payload_job(tolerance_s=MIN_TOLERANCE_S))
    worker = await agent(edge)
    await started(edge, worker, job)
    await edge.server.stop(kill=True)
    down = asyncio.get_running_loop().time()
    await edge.server.start()
    await edge.broker.wait_connected(20)
    back = datetime.now(UTC)
    assert asyncio.get_running_loop().time() - down < MIN_TOLERANCE_S
    record = await reaches(edge.records, job, lambda record: record.state is JobState.WAITING, timeout_s=30)
    assert (record.releases[-1].at - back).total_seconds() > MIN_TOLERANCE_S - 1
