"""How fast a relay hands out jobs, and what a grant, a start and a finish cost it.

One relay process on uvloop over TLS, one nats-server with file storage, workers as plain HTTP clients in this process.
"""

import asyncio
import os
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import orjson

from bench.figures import Row, cpu_seconds, spread
from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.layout import ensure_consumer
from edge_broker.permissions import EXECUTOR, RELAY
from edge_broker.records import RecordStore
from edge_broker.subjects import ACCESS_BUCKET, job_subject
from edge_relay.standalone import tls
from edge_schemas.life.model import new_record
from edge_schemas.wire.jobs import JobKind
from edge_schemas.wire.routes import JOB_FINISH, JOB_START, POLL, READYZ
from edge_schemas.wire.workers import SecretKind, WorkerAccess, WorkerSettings, hash_secret, new_secret
from support.nats.server import PASSWORDS, connected, eventually, free_port, running_server
from support.relay.jobs import make_job

QUEUE = "bench"
LATENCY_JOBS = 300
PACE_S = 0.02
SETTLE_S = 0.01
"""For each poll that parks before the first job is published."""
COST_JOBS = 600
PACED_POLL_TIMEOUT_S = 50.0
CALLERS = 32
VERSIONS = {"agent": "bench", "python": "bench", "platform": "bench"}


@dataclass
class Client:
    """A worker as the relay sees it."""

    session: aiohttp.ClientSession
    url: str
    secret: str
    seq: int = 0
    granted: dict[str, str] = field(default_factory=dict)
    kinds: ClassVar[tuple[str, ...]] = ("task",)

    async def poll(self, *, poll_timeout_s: float) -> list[str]:
        """Ask for one job; the jobs that were granted."""
        self.seq += 1
        body = {
            "protocol": 1,
            "incarnation": 1,
            "seq": self.seq,
            "slots": 1,
            "free": 1,
            "poll_timeout_s": poll_timeout_s,
            "settings_version": 1,
            "kinds": self.kinds,
        }
        status, answer = await self._post(POLL, {**body, "versions": VERSIONS})
        grants = answer["grants"] if status == 200 else []
        for grant in grants:
            self.granted[grant["job"]["id"]] = grant["receipt"]
        return [grant["job"]["id"] for grant in grants]

    async def start(self, job: str) -> None:
        """Become the holder."""
        receipt = self.granted.pop(job)
        status, answer = await self._post(JOB_START.format(job=job), {"receipt": receipt, "incarnation": 1})
        assert status < 300, answer

    async def finish(self, job: str) -> None:
        """Settle."""
        status, answer = await self._post(JOB_FINISH.format(job=job), {"exit_code": 0, "incarnation": 1})
        assert status < 300, answer

    async def _post(self, path: str, body: dict[str, object]) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/json"}
        async with self.session.post(self.url + path, data=orjson.dumps(body), headers=headers) as reply:
            content = await reply.read()
            return reply.status, orjson.loads(content) if content else {}


@dataclass
class Stand:
    """Everything that runs."""

    pid: int
    nats_pid: int
    url: str
    session: aiohttp.ClientSession
    executor: Broker
    relay: Broker
    queue: str = QUEUE

    async def client(self, number: int, queues: tuple[str, ...] = (QUEUE,)) -> Client:
        """A new worker with a credential of its own."""
        secret = new_secret(SecretKind.WORKER)
        access = WorkerAccess(
            worker=f"bench-{number}",
            secret_hash=hash_secret(secret),
            site="bench",
            settings=WorkerSettings(version=1, queues=queues),
            enrolled_at=datetime.now(UTC),
        )
        await Bucket(self.relay, ACCESS_BUCKET).put(f"worker.{access.secret_hash}", access.model_dump_json().encode())
        return Client(self.session, self.url, secret)

    async def publish(self, times: dict[str, float] | None = None, *, queue: str = QUEUE) -> str:
        """Dispatch a job; notes when its message was sent."""
        job = make_job(queue)
        await RecordStore(self.executor).create(new_record(job))
        if times is not None:
            times[job.id] = time.perf_counter()
        await self.executor.store(job_subject(None, queue, JobKind.TASK, job.id), job.model_dump_json().encode())
        return job.id


async def measure(directory: Path) -> tuple[str, list[Row]]:
    """The section of the page."""
    async with stand(directory) as running:
        rows = [
            (
                f"publish → grant, {parked} parked, median / p99 of {LATENCY_JOBS}",
                spread(await latency(running, parked)),
            )
            for parked in (1, 100)
        ]
        rows += await _costs(running)
    return "Relay: hand-out and cost of a call", rows


async def latency(stand: Stand, parked: int, *, poll_timeout_s: float = 2.0) -> list[float]:
    """Seconds from sending the message to the grant in the worker's hands."""
    clients = [await stand.client(1000 * parked + i) for i in range(parked)]
    await asyncio.gather(
        *(client.poll(poll_timeout_s=0) for client in clients)
    )  # connects: TLS is not what is measured
    published: dict[str, float] = {}
    seen: list[float] = []
    finished: list[str] = []

    async def work(client: Client) -> None:
        while True:
            for job in await client.poll(poll_timeout_s=poll_timeout_s):
                seen.append(time.perf_counter() - published[job])
                await client.start(job)
                await client.finish(job)
                finished.append(job)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work(client)) for client in clients]
        await asyncio.sleep(parked * SETTLE_S)
        for n in range(LATENCY_JOBS):
            # Open loop: a slow answer does not slow the next job down, but one worker can only take one at a time.
            if parked == 1:
                await eventually(partial(_has, seen, n))
            await asyncio.sleep(PACE_S)
            await stand.publish(published)
        await eventually(lambda: len(finished) >= LATENCY_JOBS, timeout_s=30)
        for task in tasks:
            task.cancel()
    return seen


def _has(seen: list[float], count: int) -> bool:
    return len(seen) >= count


async def _costs(stand: Stand) -> list[Row]:
    """CPU of the relay for each call."""
    rows = []
    for name, seconds in (await cost_of_calls(stand)).items():
        figure = f"{seconds * 1e6:.0f} µs CPU ({1 / seconds:.0f} per CPU-second)"
        rows.append((f"{name}, {CALLERS} callers, {COST_JOBS} jobs", figure))
    return rows


async def cost_of_calls(stand: Stand) -> dict[str, float]:
    """CPU seconds of the relay for each call, measured one kind of call at a time over a backlog."""
    clients = [await stand.client(10_000_000 + i) for i in range(CALLERS)]
    for _ in range(COST_JOBS):
        await stand.publish()
    jobs: list[tuple[Client, str]] = []

    async def take(client: Client) -> None:
        while len(jobs) < COST_JOBS:
            jobs.extend([(client, job) for job in await client.poll(poll_timeout_s=1)])

    async def each(action: str) -> None:
        left = list(jobs)

        async def run() -> None:
            while left:
                client, job = left.pop()
                await getattr(client, action)(job)

        await asyncio.gather(*(run() for _ in range(CALLERS)))

    used = {}
    for name, step in (
        ("grant", lambda: asyncio.gather(*(take(client) for client in clients))),
        ("start", lambda: each("start")),
        ("finish", lambda: each("finish")),
    ):
        before = cpu_seconds(stand.pid)
        await step()
        used[name] = (cpu_seconds(stand.pid) - before) / COST_JOBS
    return used


async def cost_at_a_pace(stand: Stand, *, callers: int, jobs: int, pace_s: float) -> float:
    """CPU seconds of the relay for a poll with a grant, a start and a finish, when jobs come at a pace."""
    clients = [await stand.client(30_000_000 + i) for i in range(callers)]
    finished = 0

    async def work(client: Client) -> None:
        nonlocal finished
        while True:
            for job in await client.poll(poll_timeout_s=PACED_POLL_TIMEOUT_S):
                await client.start(job)
                await client.finish(job)
                finished += 1

    before = cpu_seconds(stand.pid)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work(client)) for client in clients]
        for _ in range(jobs):
            await asyncio.sleep(pace_s)
            await stand.publish()
        await eventually(lambda: finished >= jobs, timeout_s=30)
        used = cpu_seconds(stand.pid) - before
        for task in tasks:
            task.cancel()
    return used / jobs


@asynccontextmanager
async def stand(directory: Path) -> AsyncIterator[Stand]:
    files = tls.ensure(directory / "tls", ["127.0.0.1"], now=datetime.now(UTC))
    password = directory / "relay.password"
    password.write_text(PASSWORDS[RELAY])
    port, operators_port = free_port(), free_port()
    async with running_server(directory / "nats") as nats:
        settings = {
            "RELAY_HOST": "127.0.0.1",
            "RELAY_PORT": str(port),
            "RELAY_OPERATORS_PORT": str(operators_port),
            "RELAY_TLS_CERT_FILE": str(files.cert),
            "RELAY_TLS_KEY_FILE": str(files.key),
            "RELAY_NATS_URLS": nats.url,
            "RELAY_NATS_PASSWORD_FILE": str(password),
            "RELAY_LOG_LEVEL": "warning",
            # Few workers send what many would.
            "RELAY_POLLS_PER_S": "1000",
            "RELAY_SUBMISSIONS_PER_S": "10000",
            "RELAY_PRODUCER_CALLS_PER_S": "1000",
            "RELAY_STRANGERS_PER_ADDRESS": "4096",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "edge_relay", "serve", env={**os.environ, **settings}
        )
        try:
            context = ssl.create_default_context(cafile=str(files.ca_cert))
            connector = aiohttp.TCPConnector(ssl=context, limit=0)
            url = f"https://127.0.0.1:{port}"
            async with aiohttp.ClientSession(connector=connector) as session:
                await eventually(lambda: _ready(session, url), timeout_s=120)
                async with connected(nats, EXECUTOR) as executor, connected(nats, RELAY) as relay:
                    await ensure_consumer(executor, None, QUEUE, JobKind.TASK)
                    yield Stand(process.pid, nats.pid, url, session, executor, relay)
        finally:
            process.terminate()
            await process.wait()


async def _ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url + READYZ) as reply:
            return reply.status == 200
    except aiohttp.ClientError:
        return False
