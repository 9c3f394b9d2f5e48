"""What becomes of submitted jobs that wait too long, or whose replica or NATS dies; without keeper and Airflow."""

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge_broker.bucket import Bucket
from edge_broker.subjects import ENDED_BUCKET, RECORDS_BUCKET
from edge_schemas.life.events import Finish, Release, Start
from edge_schemas.life.model import JobState, Verdict
from support.nats.server import eventually
from support.nats.submitted import consume, has_message, reaches, record_of, submit
from support.relay.agents import agent, metric
from support.relay.edge import Edge, running_edge
from support.relay.jobs import payload_job
from support.relay.relay_process import relay_process

STATES = {"team": "", "queue": "default"}


async def test_a_job_that_waits_past_its_time_has_failed(edge: Edge) -> None:
    """Parked or not; one that was started in time goes on, and has failed once it would wait again."""
    until = datetime.now(UTC) + timedelta(seconds=2)
    waiting, parked, running = [await submit(edge, payload_job(expires_at=until, max_attempts=n)) for n in (1, 1, 2)]
    for job in (parked, running):
        await edge.records.change(job.id, Start("somebody", 1, datetime.now(UTC)))
    await has_message(edge, waiting, parked, running)
    for job in (parked, running):
        await consume(edge, job)
    await edge.records.change(parked.id, Release("somebody", "no", counted=True, at=datetime.now(UTC)))
    for job in (waiting, parked):
        record = await reaches(edge.records, job, lambda record: record.state is JobState.ENDED)
        assert record.outcome is not None
        assert record.outcome.verdict is Verdict.FAILED
        assert str(record.outcome.reason).startswith("no worker took the job from queue 'default' before ")
        assert record.outcome.ended_at >= until
    assert (await record_of(edge.records, running)).state is JobState.RUNNING
    await edge.records.change(running.id, Release("somebody", "later", counted=True, at=datetime.now(UTC)))
    record = await reaches(edge.records, running, lambda record: record.state is JobState.ENDED)
    assert record.attempt == 1
    assert sum(metric(edge, "edge_relay_expired_jobs_total", replica=number) for number in (0, 1)) == 3
    await has_message(edge)


async def test_ended_records_are_moved_once_and_figures_follow(edge: Edge) -> None:
    """The bucket that all replicas watch holds unfinished jobs only, after a minute."""
    for relay in edge.relays:
        relay.parts.upkeep._mover._after_s = 0.5
    job, waiting = await submit(edge, payload_job()), await submit(edge, payload_job())
    await edge.records.change(job.id, Start("somebody", 1, datetime.now(UTC)))
    await _both_count(edge, waiting=1, running=1)
    await edge.records.change(job.id, Finish("somebody", 0, None, datetime.now(UTC)))

    async def moved() -> bool:
        return (await Bucket(edge.broker, RECORDS_BUCKET).get(job.id)).value is None

    await eventually(moved, what="the record is moved")
    assert (await Bucket(edge.broker, ENDED_BUCKET).get(job.id)).value is not None
    assert (await record_of(edge.records, job)).outcome is not None
    assert (await Bucket(edge.broker, RECORDS_BUCKET).get(waiting.id)).value is not None
    await _both_count(edge, waiting=1)


async def _both_count(edge: Edge, **stages: float) -> None:
    """Wait until both replicas export these numbers of jobs, and no others."""
    await eventually(lambda: _stages(edge, 0) == stages == _stages(edge, 1), what=f"the figures are {stages}")


def _stages(edge: Edge, replica: int) -> dict[str, float]:
    """The stages with jobs, as this replica exports them."""
    found = {
        stage: metric(edge, "edge_queue_submitted_jobs", {**STATES, "stage": stage}, replica=replica)
        for stage in ("waiting", "running", "stopping", "dead")
    }
    return {stage: number for stage, number in found.items() if number}


async def test_a_replica_killed_between_record_and_message_loses_nothing(tmp_path: Path) -> None:
    """The only one; its successor finds the record, and a worker runs the job."""
    async with running_edge(tmp_path, replicas=0) as edge:
        async with relay_process(edge, tmp_path / "first") as (first, _):
            known = await submit(edge, payload_job())
            await has_message(edge, known)
            os.kill(first.pid, signal.SIGSTOP)
            job = await submit(edge, payload_job())
            first.kill()
            await first.wait()
        async with relay_process(edge, tmp_path / "second"):
            await has_message(edge, known, job)


async def test_jobs_outlast_a_restart_of_nats(edge: Edge) -> None:
    """Held back, delayed, with a message and running: each runs once, and nothing but the worker's polls is needed."""
    jobs = [await submit(edge, payload_job(), delay_s=3 if number == 5 else None) for number in range(8)]
    worker = await agent(edge)
    [grant] = await worker.grants(kinds=["payload"])
    assert (await worker.start(grant)).status == 204
    await edge.server.stop(kill=True)
    await edge.server.start()
    await edge.broker.wait_connected(20)
    assert (await worker.finish(grant["job"]["id"], exit_code=0)).status in {200, 204}
    run = [grant["job"]["id"]]
    while len(run) < len(jobs):
        [grant] = await worker.grants(kinds=["payload"])
        assert (await worker.start(grant)).status == 204
        assert (await worker.finish(grant["job"]["id"], exit_code=0)).status in {200, 204}
        run.append(grant["job"]["id"])
    assert sorted(run) == sorted(job.id for job in jobs)
    for job in jobs:
        record = await record_of(edge.records, job)
        assert (record.state, record.attempt) == (JobState.ENDED, 1)
