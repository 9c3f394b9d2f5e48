"""A local gateway on its real socket, with one running job and a fake relay behind it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_schemas.life.events import Start
from edge_worker.gateway.gateway import Gateway
from edge_worker.jobs.driver import JobDriver
from edge_worker.jobs.registry import JobRegistry
from edge_worker.relay.link import Link
from edge_worker.state.job_dir import JobDir
from edge_worker.task_host.job_files import TASK_LOG
from support.relay.fake_relay import FakeRelay
from support.relay.jobs import make_job
from support.worker.agent import NAME, open_client
from support.worker.local_jobs import RUNNING, local_job


@dataclass
class Answer:
    """As it came over the socket."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class GatewayScene:
    """A gateway with one running job."""

    socket: Path
    driver: JobDriver
    link: Link
    table: JobRegistry
    gateway: Gateway

    async def call(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        """Writes the request byte by byte as given: no client library tidies the path."""
        reader, writer = await asyncio.open_unix_connection(self.socket)
        lines = [f"{method} /jobs/{self.driver.id}/execution/{target} HTTP/1.1", "Host: gateway", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        lines += [f"Content-Length: {len(body)}"] if body else []
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        head, _, content = answer.partition(b"\r\n\r\n")
        status, *fields = head.decode().split("\r\n")
        pairs = (field.split(": ", 1) for field in fields)
        return Answer(int(status.split()[1]), {name.lower(): value for name, value in pairs}, content)

    @property
    def instance(self) -> str:
        assert self.driver.job.task is not None
        return f"task-instances/{self.driver.job.task.ti_id}"

    def log_events(self) -> list[str]:
        """The lines of the task's log; each must be a whole record."""
        path = self.driver.dir.path / TASK_LOG
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [str(json.loads(line)["event"]) for line in lines]

    async def beat(self) -> Answer:
        return await self.call("PUT", f"{self.instance}/heartbeat", b'{"hostname":"h","pid":1}')

    async def set_state(self, state: str) -> Answer:
        return await self.call("PATCH", f"{self.instance}/state", json.dumps({"state": state}).encode())


@asynccontextmanager
async def serving_gateway(relay: FakeRelay, short_dir: Path, tmp_path: Path) -> AsyncIterator[GatewayScene]:
    job = make_job()
    job_dir = JobDir(tmp_path / job.id)
    job_dir.path.mkdir()
    driver = local_job(job, job_dir, RUNNING)
    table, link = JobRegistry(1), Link()
    table.add(driver)
    await relay.publish(job)
    relay._swap(job.id, Start(worker=NAME, incarnation=1, at=job.published_at))
    async with open_client(relay) as client:
        gateway = Gateway(client, table, link, short_dir / "gw.sock")
        async with gateway.serving():
            yield GatewayScene(short_dir / "gw.sock", driver, link, table, gateway)
