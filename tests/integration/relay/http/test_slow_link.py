"""Large bodies over a slow link, between worker and relay and between relay and gate: what moves arrives.

Each body takes longer than every limit in total that is in force here; only its progress keeps it.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edge_schemas.wire import routes
from edge_schemas.wire.jobs import Job
from edge_service import body_progress
from edge_worker.relay import client as relay_client
from edge_worker.relay.call_result import NoAnswer
from edge_worker.relay.client import ExecutionCall, RelayClient
from support.network.link import Cut, SlowLink
from support.relay.edge import Edge, running_edge
from support.relay.fake_gate import KEY, FakeGate, running_gate

BODY = bytes(range(256)) * 12 * 1024
"""3 MiB: 3 s at the rate of a `SlowLink`."""
LIMIT_S = 1.5
PATH = "xcoms/d/r/t/k"

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_progress, "STALL_S", LIMIT_S)
    # An eighth of the link's rate.
    monkeypatch.setattr(body_progress, "SLOWEST_BYTES_PER_S", 128 * 1024)


@dataclass(frozen=True)
class Scene:
    """A worker's client, a relay and its gate, with a slow link between two of them."""

    client: RelayClient
    job: Job
    gate: FakeGate
    link: SlowLink
    relay_url: str
    secret: str
    tls: ssl.SSLContext

    async def read(self) -> bytes:
        return (await self.client.execution(self.job.id, _call("GET", b""))).body

    async def write(self, body: bytes = BODY) -> None:
        await self.client.execution(self.job.id, _call("POST", body))

    async def until_moving(self) -> None:
        """Until some of a body has passed the link."""
        await asyncio.sleep(0.5)


def _call(method: str, body: bytes) -> ExecutionCall:
    return ExecutionCall(method, PATH, "", {"content-type": "application/json"}, body, "request-0001")


async def _slow_link(stack: AsyncExitStack, url: str) -> tuple[SlowLink, str]:
    link = await stack.enter_async_context(SlowLink.to(url))
    return link, f"{urlsplit(url).scheme}://127.0.0.1:{link.port}"


async def _relay(stack: AsyncExitStack, tmp_path: Path, gate_url: str, gate_timeout_s: float) -> Edge:
    secret = tmp_path / "gate.secret"
    secret.write_bytes(KEY)
    return await stack.enter_async_context(
        running_edge(tmp_path, gate_urls=(gate_url,), gate_key_file=secret, gate_timeout_s=gate_timeout_s)
    )


async def _scene(stack: AsyncExitStack, edge: Edge, relay_url: str, gate: FakeGate, link: SlowLink) -> Scene:
    worker = await edge.worker()
    tls = ssl.create_default_context(cafile=str(edge.ca))
    client = await stack.enter_async_context(RelayClient(relay_url, worker.secret, tls=tls, proxy=None))
    return Scene(client, await edge.job(worker), gate, link, relay_url, worker.secret, tls)


@pytest.fixture
async def slow_edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """The link between worker and relay is slow."""
    monkeypatch.setattr(relay_client, "EXECUTION_S", LIMIT_S)
    async with AsyncExitStack() as stack:
        gate = await stack.enter_async_context(running_gate())
        edge = await _relay(stack, tmp_path, gate.url, 20)
        link, relay_url = await _slow_link(stack, edge.relays[0].workers_url)
        yield await _scene(stack, edge, relay_url, gate, link)


@pytest.fixture
async def slow_centre(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """The link between relay and gate is slow: slower than the worker waits for an answer to begin."""
    monkeypatch.setattr(relay_client, "EXECUTION_S", LIMIT_S)
    async with AsyncExitStack() as stack:
        gate = await stack.enter_async_context(running_gate())
        link, gate_url = await _slow_link(stack, gate.url)
        edge = await _relay(stack, tmp_path, gate_url, LIMIT_S)
        yield await _scene(stack, edge, edge.relays[0].workers_url, gate, link)


async def test_a_large_answer_arrives_at_the_worker(slow_edge: Scene) -> None:
    slow_edge.gate.body = BODY
    assert await slow_edge.read() == BODY
    assert len(slow_edge.gate.calls) == 1


async def test_a_large_write_arrives_at_the_relay(slow_edge: Scene) -> None:
    await slow_edge.write()
    assert [call.body for call in slow_edge.gate.calls] == [BODY]


async def test_a_large_answer_arrives_from_the_gate(slow_centre: Scene) -> None:
    slow_centre.gate.body = BODY
    assert await slow_centre.read() == BODY
    assert len(slow_centre.gate.calls) == 1


async def test_a_large_write_arrives_at_the_gate(slow_centre: Scene) -> None:
    await slow_centre.write()
    assert [call.body for call in slow_centre.gate.calls] == [BODY]


@pytest.mark.slow
async def test_a_link_that_is_hardly_fast_enough_passes_bodies_both_ways(
    slow_edge: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What both sides and their systems hold moves in steps: none takes longer than a body may stand still."""
    slowest = 64 * 1024
    monkeypatch.setattr(body_progress, "SLOWEST_BYTES_PER_S", slowest)
    # As long as 240 KiB take at the slowest rate, as by default.
    monkeypatch.setattr(body_progress, "STALL_S", 240 * 1024 / slowest)
    slow_edge.link.bytes_per_s = slowest * 5 // 4
    slow_edge.gate.body = body = BODY[: len(BODY) // 3]
    assert await slow_edge.read() == body
    await slow_edge.write(body)
    assert slow_edge.gate.calls[1].body == body


async def test_an_answer_that_stands_still_ends(slow_edge: Scene) -> None:
    slow_edge.gate.body = BODY
    reading = asyncio.create_task(slow_edge.read())
    await slow_edge.until_moving()
    await slow_edge.link.cut(Cut.BLACK_HOLE, keeps=True)
    with pytest.raises(NoAnswer, match="stood still"):
        await reading


async def test_a_write_that_stands_still_ends_at_both_sides(slow_edge: Scene) -> None:
    """The body is larger than what the system takes from the worker and keeps."""
    writing = asyncio.create_task(slow_edge.write(BODY * 5))
    await slow_edge.until_moving()
    await slow_edge.link.cut(Cut.BLACK_HOLE, keeps=True)
    with pytest.raises(NoAnswer, match="stood still"):
        await writing
    assert not slow_edge.gate.calls


async def test_an_answer_of_the_gate_that_stands_still_ends(slow_centre: Scene) -> None:
    slow_centre.gate.body = BODY
    reading = asyncio.create_task(slow_centre.read())
    await slow_centre.until_moving()
    await slow_centre.link.cut(Cut.BLACK_HOLE, keeps=True)
    with pytest.raises(NoAnswer):
        await reading


async def test_a_worker_that_stops_reading_does_not_keep_its_answer(slow_centre: Scene) -> None:
    slow_centre.link.bytes_per_s = 100 * len(BODY)
    slow_centre.gate.body = BODY * 5
    reader, writer = await _connection(slow_centre)
    writer.write(_head(slow_centre, "GET", 0))
    await reader.readexactly(1000)
    await asyncio.sleep(2 * LIMIT_S)
    rest = b""
    with contextlib.suppress(ConnectionError):
        rest = await reader.read()
    assert len(rest) < 5 * len(BODY) - 1000
    writer.close()


async def test_a_worker_that_stops_sending_is_told(slow_centre: Scene) -> None:
    reader, writer = await _connection(slow_centre)
    writer.write(_head(slow_centre, "POST", 1000) + b"x" * 500)
    async with asyncio.timeout(10):
        status_line = await reader.readline()
    assert status_line.split()[1] == b"429"
    assert not slow_centre.gate.calls
    writer.close()


async def _connection(scene: Scene) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    opened.setblocking(False)
    await asyncio.get_running_loop().sock_connect(opened, ("127.0.0.1", urlsplit(scene.relay_url).port))
    return await asyncio.open_connection(sock=opened, ssl=scene.tls, server_hostname="127.0.0.1", limit=16 * 1024)


def _head(scene: Scene, method: str, length: int) -> bytes:
    target = routes.JOB_EXECUTION.format(job=scene.job.id, path=PATH)
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {scene.secret}\r\n"
    return f"{head}Content-Length: {length}\r\nConnection: close\r\n\r\n".encode()
