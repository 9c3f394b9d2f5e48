"""What a thousand idle workers cost, how fast one of them gets a job, and what a worker of many queues costs."""

import asyncio
import random
from functools import partial
from pathlib import Path

from bench.figures import Row, cpu_seconds, spread
from bench.relay import LATENCY_JOBS, Client, Stand, latency, stand
from edge_broker.layout import ensure_consumer
from edge_broker.subjects import JOBS, consumer_name
from support.nats.server import eventually

WORKERS = 1000
POLL_TIMEOUT_S = 50.0
RAMP_S = 20.0
IDLE_S = 30.0
QUEUES = 40
JOBS_OF_A_QUEUE = 5


async def measure(directory: Path) -> list[Row]:
    """Its rows of the page."""
    async with stand(directory) as one:
        rows = [*await _idle(one), *await _many_queues(one)]
        rows.append(
            (
                f"publish → grant, {WORKERS} parked, median / p99 of {LATENCY_JOBS}",
                spread(await latency(one, WORKERS, poll_timeout_s=POLL_TIMEOUT_S)),
            )
        )
    return rows


async def _idle(one: Stand) -> list[Row]:
    """CPU of both servers while all workers poll and no job comes."""
    polls = 0
    clients = [await one.client(number) for number in range(WORKERS)]

    async def work(client: Client) -> None:
        nonlocal polls
        await asyncio.sleep(random.uniform(0, RAMP_S))
        await client.poll(poll_timeout_s=random.uniform(0, POLL_TIMEOUT_S))
        while True:
            polls += 1
            await client.poll(poll_timeout_s=POLL_TIMEOUT_S)

    tasks = [asyncio.create_task(work(client)) for client in clients]
    await asyncio.sleep(RAMP_S + POLL_TIMEOUT_S / 4)
    polls, before = 0, _cpu(one)
    await asyncio.sleep(IDLE_S)
    relay, nats = (now - then for now, then in zip(_cpu(one), before, strict=True))
    info = await one.executor.api(f"CONSUMER.INFO.{JOBS}.{consumer_name(None, one.queue)}")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return [
        (f"relay, {WORKERS} idle workers, {polls / IDLE_S:.0f} polls/s", f"{relay / IDLE_S:.1%} of a core"),
        ("nats-server, same", f"{nats / IDLE_S:.1%} of a core"),
        ("open pull requests at the queue's consumer, same", str(info["num_waiting"])),
    ]


def _cpu(one: Stand) -> tuple[float, float]:
    return cpu_seconds(one.pid), cpu_seconds(one.nats_pid)


async def _many_queues(one: Stand) -> list[Row]:
    """A worker with one slot serves many queues that all have jobs."""
    queues = tuple(f"many-{number}" for number in range(QUEUES))
    for queue in queues:
        await ensure_consumer(one.executor, None, queue)
    client = await one.client(20_000_000, queues)
    await client.poll(poll_timeout_s=0)
    for queue in queues * JOBS_OF_A_QUEUE:
        await one.publish(queue=queue)
    before = cpu_seconds(one.pid)
    grants = 0
    while grants < QUEUES * JOBS_OF_A_QUEUE:
        for job in await client.poll(poll_timeout_s=1):
            grants += 1
            await client.start(job)
            await client.finish(job)
    used = cpu_seconds(one.pid) - before
    deliveries = 0
    for queue in queues:
        info = await one.executor.api(f"CONSUMER.INFO.{JOBS}.{consumer_name(None, queue)}")
        deliveries += info["delivered"]["consumer_seq"]
    await eventually(partial(_is_empty, one, queues))
    return [
        (f"deliveries per grant, {QUEUES} queues with jobs, 1 slot", f"{deliveries / grants:.2f}"),
        ("relay, per job of this worker: grant, start, finish", f"{used / grants * 1e3:.1f} ms CPU"),
    ]


async def _is_empty(one: Stand, queues: tuple[str, ...]) -> bool:
    for queue in queues:
        info = await one.executor.api(f"CONSUMER.INFO.{JOBS}.{consumer_name(None, queue)}")
        if info["num_pending"] or info["num_ack_pending"]:
            return False
    return True
