"""What a thousand idle workers cost, how fast one of them gets a job, and what a worker of many queues costs."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench.bare_server import bare_server
from bench.figures import Row, cpu_seconds, spread
from bench.relay import LATENCY_JOBS, Client, Stand, latency, stand
from edge_broker.layout import ensure_consumer
from edge_broker.subjects import JOBS, consumer_name
from edge_relay.standalone import tls
from edge_schemas.wire.jobs import JobKind
from support.nats.server import eventually

WORKERS = 1000
POLL_TIMEOUT_S = 50.0
RAMP_S = 20.0
IDLE_S = 30.0
QUEUES = 40
JOBS_OF_A_QUEUE = 5


Poll = Callable[[float], Awaitable[object]]
"""A worker's poll, with the time that it may wait."""


async def measure(directory: Path) -> list[Row]:
    """Its rows of the page."""
    rows = [await _bare(directory / "bare")]
    async with stand(directory) as one:
        clients = [await one.client(number) for number in range(WORKERS)]
        rows += await idle_cost(one, clients, consumer_name(None, one.queue, JobKind.TASK), f"{WORKERS} idle workers")
        rows += await _many_queues(one)
        rows.append(
            (
                f"publish → grant, {WORKERS} parked, median / p99 of {LATENCY_JOBS}",
                spread(await latency(one, WORKERS, poll_timeout_s=POLL_TIMEOUT_S)),
            )
        )
    return rows


async def _bare(directory: Path) -> Row:
    """CPU of a server that does nothing with the same polls: the least that they cost."""
    files = tls.ensure(directory, ["127.0.0.1"], now=datetime.now(UTC))
    async with bare_server(files) as server, _polling([server.call] * WORKERS) as count:
        polls, [used] = await _use(count, server.pid)
    return f"bare aiohttp server, {WORKERS} polls that wait, {polls / IDLE_S:.0f} polls/s", _share(used)


async def idle_cost(one: Stand, clients: Sequence[Client], consumer: str, what: str) -> list[Row]:
    """CPU of both servers while all these clients poll for jobs of a consumer and none comes."""
    async with _polling([partial(_poll, client) for client in clients]) as count:
        polls, [relay, nats] = await _use(count, one.pid, one.nats_pid)
        info = await one.executor.api(f"CONSUMER.INFO.{JOBS}.{consumer}")
    return [
        (f"relay, {what}, {polls / IDLE_S:.0f} polls/s", _share(relay)),
        ("nats-server, same", _share(nats)),
        ("open pull requests at the queue's consumer, same", str(info["num_waiting"])),
    ]


async def _poll(client: Client, timeout_s: float) -> None:
    await client.poll(poll_timeout_s=timeout_s)


@asynccontextmanager
async def _polling(polls: Sequence[Poll]) -> AsyncIterator[Callable[[], int]]:
    """Workers that poll one after the other's answer; inside, all do, and so many polls have begun."""
    begun = 0

    async def work(poll: Poll) -> None:
        nonlocal begun
        await asyncio.sleep(random.uniform(0, RAMP_S))
        await poll(random.uniform(0, POLL_TIMEOUT_S))
        while True:
            begun += 1
            await poll(POLL_TIMEOUT_S)

    tasks = [asyncio.create_task(work(poll)) for poll in polls]
    try:
        await asyncio.sleep(RAMP_S + POLL_TIMEOUT_S / 4)
        yield lambda: begun
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _use(polls: Callable[[], int], *pids: int) -> tuple[int, list[float]]:
    """How many polls began in `IDLE_S`, and the CPU seconds of the processes meanwhile."""
    before = polls(), [cpu_seconds(pid) for pid in pids]
    await asyncio.sleep(IDLE_S)
    return polls() - before[0], [cpu_seconds(pid) - then for pid, then in zip(pids, before[1], strict=True)]


def _share(seconds: float) -> str:
    return f"{seconds / IDLE_S:.1%} of a core"


async def _many_queues(one: Stand) -> list[Row]:
    """A worker with one slot serves many queues that all have jobs."""
    queues = tuple(f"many-{number}" for number in range(QUEUES))
    for queue in queues:
        await ensure_consumer(one.executor, None, queue, JobKind.TASK)
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
        info = await one.executor.api(f"CONSUMER.INFO.{JOBS}.{consumer_name(None, queue, JobKind.TASK)}")
        deliveries += info["delivered"]["consumer_seq"]
    await eventually(partial(_is_empty, one, queues))
    return [
        (f"deliveries per grant, {QUEUES} queues with jobs, 1 slot", f"{deliveries / grants:.2f}"),
        ("relay, per job of this worker: grant, start, finish", f"{used / grants * 1e3:.1f} ms CPU"),
    ]


async def _is_empty(one: Stand, queues: tuple[str, ...]) -> bool:
    for queue in queues:
        info = await one.executor.api(f"CONSUMER.INFO.{JOBS}.{consumer_name(None, queue, JobKind.TASK)}")
        if info["num_pending"] or info["num_ack_pending"]:
            return False
    return True
