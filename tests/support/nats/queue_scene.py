"""Queues with something of everything in them: what people see with the `nats` command line."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge_schemas.life.events import Release
from edge_schemas.life.transition import RELEASES_BEFORE_PARKED
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import Job, TaskWork
from edge_schemas.wire.workers import SecretKind, new_secret
from support.relay.agents import Agent, publish
from support.relay.edge import Edge, Worker, running_edge
from support.relay.jobs import make_job

LOG = (b"loading 4 pumps\n", b"pump 3 answers late\n")
BUSY, UNSERVED = "default", "gpu.large"


@dataclass(frozen=True)
class Scene:
    """Jobs in every state that people ask about.

    Attributes:
        worker: Serves `default`; nobody serves `gpu.large`.
        running: Held by the worker, with a log in two chunks.
        granted: Told to the worker, which has not started it.
        waiting: In `gpu.large`, the oldest first.
        parked: Given back too often.
        ended: Its process left without a final state; its record was moved to the ended ones.
    """

    edge: Edge
    worker: str
    running: Job
    granted: Job
    waiting: tuple[Job, ...]
    parked: Job
    ended: Job


@asynccontextmanager
async def queue_scene(directory: Path) -> AsyncIterator[Scene]:
    """A relay with a worker, made by the calls that workers, executors and operators make."""
    async with running_edge(directory) as edge:
        worker = await _enrolled(edge)
        ended = await _started(worker)
        assert (await worker.finish(ended.id, exit_code=0)).status in {200, 204}
        await edge.records.move_ended(ended.id)
        running = await _started(worker)
        for number, chunk in enumerate(LOG):
            offset = sum(map(len, LOG[:number]))
            assert (await edge.put_log(running, worker.worker, offset, chunk)).status == 200
        parked = await _parked(worker)
        granted = await publish(edge.broker, _job(BUSY))
        await worker.grants(jobs=[{"id": running.id, "phase": "running"}])
        waiting = tuple([await publish(edge.broker, _job(UNSERVED)) for _ in range(3)])
        yield Scene(edge, worker.name, running, granted, waiting, parked, ended)


def _job(queue: str) -> Job:
    job = make_job(queue)
    assert isinstance(job.work, TaskWork)
    names = {"dag_id": "pumps", "task_id": "read_levels", "run_id": "scheduled__2026-11-22T06:00:00+00:00"}
    work = job.work.model_copy(update={"task": job.work.task.model_copy(update=names)})
    return job.model_copy(update={"work": work})


async def _enrolled(edge: Edge) -> Agent:
    body = {"queues": [BUSY], "site": "plant-7", "uses": 1, "ttl_s": 3600}
    token = (await edge.admin("POST", routes.ADMIN_ENROLL_TOKENS, body)).json["token"]
    secret = new_secret(SecretKind.WORKER)
    return Agent(edge, Worker((await edge.enroll(token, secret)).json["worker"], secret))


async def _started(worker: Agent) -> Job:
    job = await publish(worker.edge.broker, _job(BUSY))
    [grant] = await worker.grants()
    assert (await worker.start(grant)).status == 204
    return job


async def _parked(worker: Agent) -> Job:
    """Given back for the last time by the worker; the times before without the pauses between them."""
    job = await publish(worker.edge.broker, _job(BUSY))
    [grant] = await worker.grants()
    for number in range(RELEASES_BEFORE_PARKED - 1):
        event = Release(worker.name, "no room for it", counted=True, at=datetime.now(UTC), grant=str(number))
        await worker.edge.records.change(job.id, event)
    assert (await worker.release(grant, reason="no room for it")).status == 204
    return job
