"""The queue without Airflow: how fast a payload is submitted, processed and answered, and what a job costs.

One relay process over TLS, one nats-server, producers and consumers as plain HTTP clients in this process. For
comparison, the cost of the three calls of a worker is printed as `relay` does.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from bench.figures import Row, cpu_seconds, spread
from bench.relay import Client, Stand, cost_of_calls, stand
from edge_broker.bucket import Bucket
from edge_broker.subjects import ACCESS_BUCKET
from edge_relay.identity.access_keys import ACCESS_PREFIX
from edge_schemas.admin.access import AccessScope, AccessTokenEntry, Role
from edge_schemas.producers.submissions import MAX_BATCH
from edge_schemas.wire.routes import JOB, QUEUE_JOB_BATCHES, QUEUE_JOBS
from edge_schemas.wire.workers import SecretKind, hash_secret, new_secret
from support.nats.server import eventually

QUEUE = "payloads"
ROUND_TRIPS = 200
JOBS = 2000
CONSUMERS = 16
POLL_S = 20.0
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


async def measure(directory: Path) -> tuple[str, list[Row]]:
    """The section of the page."""
    async with stand(directory) as running:
        producer = await _producer(running)
        consumers = [await _consumer(running, number) for number in range(CONSUMERS)]
        done: list[str] = []
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(consumer.work(done)) for consumer in consumers]
            rows = await _round_trips(producer, done)
            rows += await _throughput(running, producer, done)
            for task in tasks:
                task.cancel()
        calls = sum((await cost_of_calls(running)).values())
        rows.append(("relay: grant, start and finish of a job of Airflow", f"{calls * 1e3:.2f} ms of CPU"))
    return "The queue without Airflow", rows


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


async def _throughput(running: Stand, producer: Producer, done: Sequence[str]) -> list[Row]:
    before, began = len(done), time.perf_counter()
    relay, nats = cpu_seconds(running.pid), cpu_seconds(running.nats_pid)
    for _ in range(JOBS // MAX_BATCH):
        await producer.submit_batch(MAX_BATCH)
    submitted_s = time.perf_counter() - began
    await eventually(lambda: len(done) - before >= JOBS, timeout_s=300)
    took_s = time.perf_counter() - began
    costs = (cpu_seconds(running.pid) - relay) / JOBS, (cpu_seconds(running.nats_pid) - nats) / JOBS
    return [
        (f"{JOBS} payloads in batches of {MAX_BATCH}: submitted", f"{JOBS / submitted_s:.0f} jobs/s"),
        (f"the same, {CONSUMERS} consumers of one slot: ended", f"{JOBS / took_s:.0f} jobs/s"),
        (
            "CPU of relay / nats-server for each job, from its submission to its end",
            "{:.2f} / {:.2f} ms".format(*(seconds * 1e3 for seconds in costs)),
        ),
    ]


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
