"""The queue without Airflow: how fast a payload is submitted, processed and answered, and what a job costs.

One relay process over TLS, one nats-server, producers and consumers as plain HTTP clients in this process. For
comparison, the same jobs are processed by a bare queue (see `bare_queue`), and the cost of the three calls of a worker
is printed as `relay` does.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from bench.bare_queue import bare_queue
from bench.figures import Row, cpu_seconds, spread
from bench.relay import Client, Stand, cost_of_calls, stand
from bench.scale.parked import idle_cost
from edge_broker.bucket import Bucket
from edge_broker.layout import ensure_consumer
from edge_broker.subjects import ACCESS_BUCKET, consumer_name
from edge_relay.identity.access_keys import ACCESS_PREFIX
from edge_relay.standalone import tls
from edge_schemas.admin.access import AccessScope, AccessTokenEntry, Role
from edge_schemas.producers.submissions import MAX_BATCH
from edge_schemas.wire.jobs import JobKind
from edge_schemas.wire.routes import JOB, QUEUE_JOB_BATCHES, QUEUE_JOBS
from edge_schemas.wire.workers import SecretKind, hash_secret, new_secret
from support.nats.server import eventually

QUEUE = "payloads"
ROUND_TRIPS = 200
JOBS = 2000
CONSUMERS = 16
POLL_S = 20.0
IDLE_CONSUMERS = 1000
PAYLOAD = {"content_type": "application/json", "text": '{"order": 4711, "parts": ["bolt", "nut"]}'}


@dataclass
class Producer:
    """A producer as the relay sees it."""

    session: aiohttp.ClientSession
    url: str
    secret: str

    async def submit(self) -> str:
        """Submit one payload; returns its job."""
        return str((await self._call("POST", QUEUE_JOBS.format(queue=QUEUE), {"payload": PAYLOAD}))["job"])

    async def submit_batch(self, count: int) -> None:
        """Submit several payloads by one call."""
        batch = {"jobs": [{"payload": PAYLOAD}] * count}
        answer = await self._call("POST", QUEUE_JOB_BATCHES.format(queue=QUEUE), batch)
        assert all(one.get("job") for one in answer["jobs"]), answer

    async def until_ended(self, job: str) -> Any:
        """The status of a job at its end."""
        while True:
            status = await self._call("GET", f"{JOB.format(job=job)}?wait={POLL_S:g}")
            if status["state"] == "ended":
                return status

    async def _call(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/json"}
        data = None if body is None else orjson.dumps(body)
        async with self.session.request(method, self.url + path, data=data, headers=headers) as reply:
            content = await reply.read()
            assert reply.status < 300, content
            return orjson.loads(content)


class Consumer(Client):
    """A consumer of payloads that answers each of them at once."""

    kinds = ("payload",)

    async def work(self, done: list[str]) -> None:
        """Process payloads until cancelled."""
        while True:
            for job in await self.poll(poll_timeout_s=POLL_S):
                await self.start(job)
                await self.finish(job)
                done.append(job)


@dataclass(frozen=True, slots=True)
class Throughput:
    """How fast `JOBS` jobs were processed, and the CPU seconds of the processes meanwhile."""

    submitted_s: float
    took_s: float
    relay_s: float
    nats_s: float
    clients_s: float

    @property
    def per_s(self) -> float:
        """Jobs in a second, from the first submission to the last end."""
        return JOBS / self.took_s


async def measure(directory: Path) -> tuple[str, list[Row]]:
    """The section of the page."""
    async with stand(directory / "relay") as running:
        producer = await _producer(running)
        consumers = [await _consumer(running, number) for number in range(CONSUMERS)]
        async with _working(consumers) as done:
            rows = await _round_trips(producer, done)
            relay = await _throughput(producer, done, running.pid, running.nats_pid)
        calls = sum((await cost_of_calls(running)).values())
    rows += _rows(relay, await _bare(directory / "bare"))
    rows.append(("relay: grant, start and finish of a job of Airflow", f"{calls * 1e3:.2f} ms of CPU"))
    return "The queue without Airflow", rows + await _idle(directory / "idle")


async def _idle(directory: Path) -> list[Row]:
    """With a relay of its own: the other one still moves the records of the jobs that have ended."""
    async with stand(directory) as running:
        # The first job of a queue makes it.
        await ensure_consumer(running.executor, None, QUEUE, JobKind.PAYLOAD)
        consumers = [await _consumer(running, number) for number in range(IDLE_CONSUMERS)]
        name = consumer_name(None, QUEUE, JobKind.PAYLOAD)
        return await idle_cost(running, consumers, name, f"{IDLE_CONSUMERS} idle consumers of payloads")


@asynccontextmanager
async def _working(consumers: Sequence[Consumer]) -> AsyncIterator[list[str]]:
    """Consumers that work while inside; the jobs that they have ended."""
    done: list[str] = []
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(consumer.work(done)) for consumer in consumers]
        yield done
        for task in tasks:
            task.cancel()


async def _bare(directory: Path) -> Throughput:
    """The same jobs with the same clients, in a queue that does nothing else."""
    files = tls.ensure(directory / "tls", ["127.0.0.1"], now=datetime.now(UTC))
    async with bare_queue(directory / "nats", files) as bare:
        consumers = [Consumer(bare.session, bare.url, "") for _ in range(CONSUMERS)]
        async with _working(consumers) as done:
            return await _throughput(Producer(bare.session, bare.url, ""), done, bare.pid, bare.nats_pid)


async def _round_trips(producer: Producer, done: Sequence[str]) -> list[Row]:
    # The first one makes the queue's consumer and opens the connections.
    await producer.until_ended(await producer.submit())
    submits, ends = [], []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        job = await producer.submit()
        submits.append(time.perf_counter() - began)
        await producer.until_ended(job)
        ends.append(time.perf_counter() - began)
    assert len(done) > ROUND_TRIPS
    return [
        (f"submit → answer, median / p99 of {ROUND_TRIPS}", spread(submits)),
        (f"submit → end of the job at its producer, {CONSUMERS} consumers wait, median / p99", spread(ends)),
    ]


async def _throughput(producer: Producer, done: Sequence[str], *pids: int) -> Throughput:
    pids = (*pids, os.getpid())
    before, began = len(done), time.perf_counter()
    used = [cpu_seconds(pid) for pid in pids]
    for _ in range(JOBS // MAX_BATCH):
        await producer.submit_batch(MAX_BATCH)
    submitted_s = time.perf_counter() - began
    await eventually(lambda: len(done) - before >= JOBS, timeout_s=300)
    took_s = time.perf_counter() - began
    return Throughput(submitted_s, took_s, *(cpu_seconds(pid) - then for pid, then in zip(pids, used, strict=True)))


def _rows(relay: Throughput, bare: Throughput) -> list[Row]:
    of_relay, of_nats, of_clients = (
        seconds / relay.took_s for seconds in (relay.relay_s, relay.nats_s, relay.clients_s)
    )
    return [
        (f"{JOBS} payloads in batches of {MAX_BATCH}: submitted", f"{JOBS / relay.submitted_s:.0f} jobs/s"),
        (f"the same, {CONSUMERS} consumers of one slot: ended", f"{relay.per_s:.0f} jobs/s"),
        (
            f"what bounds it: CPU of relay / nats-server / the bench's clients, {os.cpu_count()} cores",
            f"{of_relay:.0%} / {of_nats:.0%} / {of_clients:.0%} of a core",
        ),
        ("CPU of relay / nats-server for each job, from its submission to its end", _cost(relay)),
        ("bare queue, the same jobs and durable writes: ended", f"{bare.per_s:.0f} jobs/s"),
        ("bare queue: CPU of it / nats-server for each job", _cost(bare)),
        (
            "relay against bare queue: jobs/s, CPU for each job",
            f"{relay.per_s / bare.per_s:.2f} of it, {relay.relay_s / bare.relay_s:.1f} times",
        ),
    ]


def _cost(used: Throughput) -> str:
    return f"{used.relay_s / JOBS * 1e3:.2f} / {used.nats_s / JOBS * 1e3:.2f} ms"


async def _producer(running: Stand) -> Producer:
    secret = new_secret(SecretKind.ACCESS)
    entry = AccessTokenEntry(
        name="bench",
        role=Role.PRODUCER,
        scope=AccessScope(queues=(QUEUE,)),
        created_at=datetime.now(UTC),
    )
    await Bucket(running.relay, ACCESS_BUCKET).put(
        ACCESS_PREFIX + hash_secret(secret), entry.model_dump_json(exclude_none=True).encode()
    )
    return Producer(running.session, running.url, secret)


async def _consumer(running: Stand, number: int) -> Consumer:
    worker = await running.client(50_000_000 + number, queues=(QUEUE,))
    return Consumer(worker.session, worker.url, worker.secret)
