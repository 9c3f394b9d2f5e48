"""One relay process over TLS, NATS behind a forwarder that can be cut, and workers with running jobs."""

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from bench.scale.fleet import Member
from bench.scale.forwarder import Forwarder, forwarding
from bench.scale.history import copies
from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.jetstream.stream_info import stream_info
from edge_broker.layout import ensure_consumer
from edge_broker.permissions import ADMIN, RELAY
from edge_broker.subjects import ACCESS_BUCKET, RECORDS_BUCKET, kv_stream, kv_subject
from edge_relay.standalone import tls
from edge_schemas.life.events import Start
from edge_schemas.life.model import new_record
from edge_schemas.life.transition import transition
from edge_schemas.wire.routes import READYZ
from edge_schemas.wire.workers import SecretKind, WorkerAccess, WorkerSettings, hash_secret, new_secret
from support.nats.server import PASSWORDS, connected, eventually, free_port, running_server
from support.relay.jobs import make_job

QUEUE = "bench"


@dataclass
class Stand:
    """Everything that runs.

    Attributes:
        broker: Of the user `admin`; it does not go through the forwarder.
    """

    pid: int
    nats_pid: int
    url: str
    ca_file: Path
    broker: Broker
    nats: Forwarder

    async def members(self, workers: int, jobs: int) -> list[Member]:
        """New workers, each the holder of so many running jobs."""
        return [await self._member(f"bench-{jobs}-{number}", jobs) for number in range(workers)]

    async def _member(self, name: str, jobs: int) -> Member:
        secret = new_secret(SecretKind.WORKER)
        access = WorkerAccess(
            worker=name,
            secret_hash=hash_secret(secret),
            site="bench",
            settings=WorkerSettings(version=1, queues=(QUEUE,)),
            enrolled_at=datetime.now(UTC),
        )
        await Bucket(self.broker, ACCESS_BUCKET).put(f"worker.{access.secret_hash}", access.model_dump_json().encode())
        return Member(secret, tuple(await self.running_jobs(name, jobs)))

    async def running_jobs(self, worker: str, number: int) -> list[str]:
        """New jobs that this worker has started."""
        started = transition(new_record(make_job(QUEUE)), Start(worker, 1, datetime.now(UTC)))
        jobs = list(copies(started, number))
        for job, record in jobs:
            await self.broker.publish(kv_subject(RECORDS_BUCKET, job), record)
        # An answer proves that the server has received what was sent before.
        await stream_info(self.broker, kv_stream(RECORDS_BUCKET))
        return [job for job, _ in jobs]


@asynccontextmanager
async def stand(directory: Path) -> AsyncIterator[Stand]:
    """Everything, until the end of the block."""
    files = tls.ensure(directory / "tls", ["127.0.0.1"], now=datetime.now(UTC))
    password = directory / "relay.password"
    password.write_text(PASSWORDS[RELAY])
    port = free_port()
    async with (
        running_server(directory / "nats") as nats,
        forwarding(nats.url) as forwarder,
        connected(nats, ADMIN) as broker,
    ):
        await ensure_consumer(broker, None, QUEUE)
        settings = {
            "RELAY_HOST": "127.0.0.1",
            "RELAY_PORT": str(port),
            "RELAY_OPERATORS_PORT": str(free_port()),
            "RELAY_TLS_CERT_FILE": str(files.cert),
            "RELAY_TLS_KEY_FILE": str(files.key),
            "RELAY_NATS_URLS": f"nats://127.0.0.1:{forwarder.port}",
            "RELAY_NATS_PASSWORD_FILE": str(password),
            "RELAY_LOG_LEVEL": "warning",
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "edge_relay", "serve"), env={**os.environ, **settings}
        )
        try:
            url = f"https://127.0.0.1:{port}"
            await _ready(url, files.ca_cert)
            assert nats.pid is not None
            yield Stand(process.pid, nats.pid, url, files.ca_cert, broker, forwarder)
        finally:
            process.terminate()
            await process.wait()


async def _ready(url: str, ca_file: Path) -> None:
    context = ssl.create_default_context(cafile=str(ca_file))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:

        async def answers() -> bool:
            try:
                async with session.get(url + READYZ) as reply:
                    return reply.status == 200
            except aiohttp.ClientError:
                return False

        await eventually(answers, timeout_s=30, what="the relay is ready")
