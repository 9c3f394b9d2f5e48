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

from bench.scale.fleet import Fleet, Member, Orders, running_fleet
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
from edge_schemas.wire.jobs import JobKind
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

    relay: "RelayProcess"
    nats_pid: int
    broker: Broker
    nats: Forwarder

    @property
    def pid(self) -> int:
        """Of the relay."""
        return self.relay.pid

    @property
    def url(self) -> str:
        """Of the relay."""
        return self.relay.url

    @property
    def ca_file(self) -> Path:
        """Of the relay's certificate."""
        return self.relay.ca_file

    @property
    def operators_url(self) -> str:
        """Of the relay."""
        return self.relay.operators_url

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


class RelayProcess:
    """A relay that can be killed and started again.

    Args:
        directory: For its files.
        nats_url: How it reaches NATS.
    """

    def __init__(self, directory: Path, nats_url: str) -> None:
        files = tls.ensure(directory / "tls", ["127.0.0.1"], now=datetime.now(UTC))
        password = directory / "relay.password"
        password.write_text(PASSWORDS[RELAY])
        port, operators_port = free_port(), free_port()
        self.url = f"https://127.0.0.1:{port}"
        self.operators_url = f"http://127.0.0.1:{operators_port}"
        self.ca_file = files.ca_cert
        self._process: asyncio.subprocess.Process | None = None
        self._settings = {
            "RELAY_HOST": "127.0.0.1",
            "RELAY_PORT": str(port),
            "RELAY_OPERATORS_PORT": str(operators_port),
            "RELAY_TLS_CERT_FILE": str(files.cert),
            "RELAY_TLS_KEY_FILE": str(files.key),
            "RELAY_NATS_URLS": nats_url,
            "RELAY_NATS_PASSWORD_FILE": str(password),
            "RELAY_LOG_LEVEL": "error",
            # Few workers send what many would.
            "RELAY_POLLS_PER_S": "1000",
        }

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it, and wait until it is ready."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "edge_relay", "serve"), env={**os.environ, **self._settings}
        )
        context = ssl.create_default_context(cafile=str(self.ca_file))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            await eventually(lambda: _is_ready(session, self.url), timeout_s=60, what="the relay is ready")

    async def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def stand(directory: Path) -> AsyncIterator[Stand]:
    """Everything, until the end of the block."""
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    async with (
        running_server(directory / "nats") as nats,
        forwarding(nats.url) as forwarder,
        connected(nats, ADMIN) as broker,
    ):
        await ensure_consumer(broker, None, QUEUE, JobKind.TASK)
        relay = RelayProcess(directory, f"nats://127.0.0.1:{forwarder.port}")
        try:
            await relay.start()
            yield Stand(relay, nats.pid, broker, forwarder)
        finally:
            await relay.kill()


@asynccontextmanager
async def manned_stand(
    directory: Path, *, workers: int, jobs: int, poll_timeout_s: float
) -> AsyncIterator[tuple[Stand, list[Member], Fleet]]:
    """A stand with so many workers that poll, all from one address, each the holder of so many running jobs."""
    async with stand(directory) as found:
        members = await found.members(workers, jobs)
        async with running_fleet(Orders(found.url, str(found.ca_file), poll_timeout_s, jobs, members)) as fleet:
            yield found, members, fleet


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url + READYZ) as reply:
            return reply.status == 200
    except aiohttp.ClientError:
        return False
