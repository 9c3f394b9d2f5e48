"""What it costs to publish no more messages than free slots need, and what it brings.

The executor's publisher in this process, one relay process, one nats-server. Each figure is measured twice: with
everything published at once, and with the default number of messages ahead of the free slots.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import structlog

from bench.figures import Row, spread
from bench.relay import QUEUE, Client, Stand, stand
from edge_bridge.airflow.dispatch_table import DispatchTable, Entry
from edge_bridge.executor.metrics import ExecutorMetrics
from edge_bridge.executor.publisher import Publisher
from edge_bridge.tracing import CentreJobSpans
from edge_broker.bundles.mirror import BundleMirror
from edge_broker.connection.broker import Broker
from edge_broker.records import RecordStore
from edge_broker.subjects import RECORDS_BUCKET, RELAY_DEMAND
from edge_broker.watched_bucket import WatchedBucket
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.jobs import Job, TaskWork
from edge_service import task_cleanup
from edge_service.tracing import Spans
from edge_upkeep.order.demand import Demand
from edge_upkeep.order.queue_order import QueueOrder
from edge_upkeep.order.rank import rank
from support.nats.server import eventually
from support.relay.jobs import make_job

DEFAULT_AHEAD, UNLIMITED = 4, 10**6
PARKED = 100
LATENCY_JOBS = 300
PACE_S = 0.02
SLOTS = 32
BUSY_JOBS = 800
JOB_S = 0.5
BACKLOG = 500


@dataclass
class Executor:
    """The part of an executor that publishes, with a table of its dispatches but without Airflow."""

    ahead: int
    dispatches: DispatchTable = field(default_factory=DispatchTable)
    demand: Demand = field(default_factory=Demand)

    def __post_init__(self) -> None:
        self.order = QueueOrder(
            rank, self.demand, lambda _, queue: self.dispatches.started_in(queue), lambda *_: self.ahead
        )
        metrics, spans = ExecutorMetrics().of(None), CentreJobSpans(Spans())
        self.publisher = Publisher(
            lambda *_: None, lambda _: None, self.order, metrics, spans, published=BundleMirror(), bundle_wait_s=60
        )
        self.dispatches.on_left(self.publisher.queue.left)
        self.demand.on_report(self.publisher.queue.demand_changed)

    def hand_out(self, *jobs: Job) -> None:
        """As the scheduler does."""
        self.dispatches.add(Entry(job.id, job.id, dispatch=job.id) for job in jobs)
        self.publisher.add(list(jobs))

    @asynccontextmanager
    async def running(self, broker: Broker) -> AsyncIterator["Executor"]:
        await broker.subscribe(RELAY_DEMAND, self.demand.on_message)
        loops = (
            self.publisher.run(broker, RecordStore(broker)),
            WatchedBucket(broker, RECORDS_BUCKET, self._on_record).run(),
        )
        tasks = [asyncio.ensure_future(loop) for loop in loops]
        yield self
        await task_cleanup.cancel_and_wait(tasks)

    def _on_record(self, job: str, value: bytes | None) -> None:
        entry = self.dispatches.get(job)
        if entry is None or value is None:
            return
        record = JobRecord.model_validate_json(value)
        self.dispatches.update(entry, record)
        if record.state is JobState.ENDED:
            self.dispatches.drop(job)


async def measure(directory: Path) -> tuple[str, list[Row]]:
    """The section of the page."""
    rows = []
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    for ahead, name in ((UNLIMITED, "everything published"), (DEFAULT_AHEAD, f"{DEFAULT_AHEAD} ahead")):
        async with stand(directory / str(ahead)) as running, Executor(ahead).running(running.executor) as executor:
            waits = await latency(running, executor)
            rows.append((f"{name}: hand-out → grant, {PARKED} parked, median / p99 of {LATENCY_JOBS}", spread(waits)))
            idle, took_s = await busy(running, executor)
            rows.append((f"{name}: poll → grant of {SLOTS} busy slots, jobs of {JOB_S} s, median / p99", spread(idle)))
            rows.append((f"{name}: the same {BUSY_JOBS} jobs, jobs per second", f"{BUSY_JOBS / took_s:.1f}"))
            before = await overtaking(running, executor)
            rows.append((f"{name}: jobs before a later one of high weight, backlog of {BACKLOG}", str(before)))
    return "Order within a queue", rows


async def latency(stand: Stand, executor: Executor) -> list[float]:
    """Seconds from the hand-out of a job to its grant in the worker's hands, while slots are free."""
    clients = [await stand.client(n) for n in range(PARKED)]
    handed_out: dict[str, float] = {}
    seen: list[float] = []

    async def work(client: Client) -> None:
        while True:
            for job in await client.poll(poll_timeout_s=2):
                seen.append(time.perf_counter() - handed_out[job])
                await client.start(job)
                await client.finish(job)

    tasks = [asyncio.ensure_future(work(client)) for client in clients]
    await eventually(lambda: executor.demand.free(QUEUE) > PARKED / 2, timeout_s=20)
    for _ in range(LATENCY_JOBS):
        await asyncio.sleep(PACE_S)
        job = make_job(QUEUE)
        handed_out[job.id] = time.perf_counter()
        executor.hand_out(job)
    await eventually(lambda: len(seen) == LATENCY_JOBS, timeout_s=30)
    await task_cleanup.cancel_and_wait(tasks)
    return seen


async def busy(stand: Stand, executor: Executor) -> tuple[list[float], float]:
    """For how long each free slot waits for its next job, and how long a backlog takes."""
    clients = [await stand.client(1000 + n) for n in range(SLOTS)]
    executor.hand_out(*(make_job(QUEUE) for _ in range(BUSY_JOBS)))
    await eventually(lambda: not len(executor.publisher), timeout_s=30)
    idle: list[float] = []
    began = time.perf_counter()

    async def work(client: Client) -> None:
        while len(idle) < BUSY_JOBS:
            asked = time.perf_counter()
            for job in await client.poll(poll_timeout_s=1):
                idle.append(time.perf_counter() - asked)
                await client.start(job)
                await asyncio.sleep(JOB_S)
                await client.finish(job)

    await asyncio.gather(*(work(client) for client in clients))
    return idle, time.perf_counter() - began


async def overtaking(stand: Stand, executor: Executor) -> int:
    """How many jobs of a backlog one slot gets before a later job of high weight."""
    client = await stand.client(2000)
    executor.hand_out(*(make_job(QUEUE) for _ in range(BACKLOG)))
    await eventually(lambda: not len(executor.publisher), timeout_s=30)
    high = _weighted(100)
    executor.hand_out(high)
    await eventually(lambda: not len(executor.publisher), timeout_s=30)
    before = 0
    while True:
        for job in await client.poll(poll_timeout_s=1):
            await client.start(job)
            await client.finish(job)
            if job == high.id:
                return before
            before += 1


def _weighted(weight: int) -> Job:
    job = make_job(QUEUE)
    assert isinstance(job.work, TaskWork)
    work = job.work.model_copy(update={"workload": {"ti": {"priority_weight": weight}}})
    return job.model_copy(update={"work": work, "published_at": datetime.now(UTC)})
