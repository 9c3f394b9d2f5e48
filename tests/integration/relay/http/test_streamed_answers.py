"""Large answers of the gate: passed on while they arrive, in little memory, never whole unless signed.

Each is signed behind its body, and in its head, as by an older keeper.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from yarl import URL

from bench.figures import rss_bytes
from edge_relay.gate.answers import STREAMED_FROM_BYTES
from edge_schemas.wire import routes
from edge_worker.relay.call_result import NoAnswer, Refused
from edge_worker.relay.client import ExecutionCall, RelayClient
from support.nats.server import eventually
from support.relay.edge import Edge, Worker, running_edge
from support.relay.fake_gate import KEY, FakeGate, running_gate
from support.relay.relay_process import relay_process

PATH = "xcoms/d/r/t/k"
LARGE = bytes(range(256)) * 4096
MIB = 1 << 20


class Scene:
    """A worker with a job, its relay, and the gate."""

    def __init__(self, edge: Edge, gate: FakeGate, secret: Path, worker: Worker) -> None:
        self.edge = edge
        self.gate = gate
        self.secret = secret
        self.worker = worker

    async def read(self) -> bytes:
        """One try of a task's call."""
        job = await self.edge.job(self.worker)
        url, tls = self.edge.relays[0].workers_url, ssl.create_default_context(cafile=str(self.edge.ca))
        async with RelayClient(url, self.worker.secret, tls=tls, proxy=None) as client:
            return (await client.execution(job.id, ExecutionCall("GET", PATH, "", {}, b"", "request-0001"))).body


@pytest.fixture(params=[True, False], ids=["signed at the end", "older keeper"])
async def scene(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    secret = tmp_path / "gate.secret"
    secret.write_bytes(KEY)
    async with running_gate() as gate, running_edge(tmp_path, gate_urls=(gate.url,), gate_key_file=secret) as edge:
        gate.signs_at_end = request.param
        yield Scene(edge, gate, secret, await edge.worker())


@pytest.mark.parametrize("size", [STREAMED_FROM_BYTES, STREAMED_FROM_BYTES + 1, len(LARGE)])
async def test_an_answer_arrives_as_it_is(scene: Scene, size: int) -> None:
    scene.gate.body = LARGE[:size]
    assert await scene.read() == LARGE[:size]
    assert len(scene.gate.calls) == 1


@pytest.mark.parametrize("changed", [0, len(LARGE) // 2, len(LARGE) - 1])
async def test_a_forged_body_is_never_whole(scene: Scene, changed: int) -> None:
    """Whatever byte was changed on the way, the last one included."""
    scene.gate.body = LARGE
    scene.gate.sent_instead = LARGE[:changed] + b"?" + LARGE[changed + 1 :]
    with pytest.raises(NoAnswer):
        await scene.read()


@pytest.mark.parametrize("cut_after", [0, STREAMED_FROM_BYTES, len(LARGE) - 1])
async def test_a_truncated_body_is_never_whole(scene: Scene, cut_after: int) -> None:
    scene.gate.body = LARGE
    scene.gate.cut_after = cut_after
    with pytest.raises((NoAnswer, Refused)):
        await scene.read()


async def test_a_shorter_body_with_a_fitting_length_is_never_whole(scene: Scene) -> None:
    scene.gate.body = LARGE
    scene.gate.sent_instead = LARGE[:-1000]
    with pytest.raises((NoAnswer, Refused)):
        await scene.read()


async def test_the_signature_of_another_key_is_worth_nothing(scene: Scene) -> None:
    scene.gate.body = LARGE
    scene.gate.key = b"the secret of another installation"
    with pytest.raises((NoAnswer, Refused)):
        await scene.read()


async def test_a_forged_head_costs_a_call_of_the_next_keeper(tmp_path: Path) -> None:
    """Status and length are checked before anything is passed on, so that the worker notices nothing."""
    secret = tmp_path / "gate.secret"
    secret.write_bytes(KEY)
    async with (
        running_gate() as forged,
        running_gate() as good,
        running_edge(tmp_path, gate_urls=(forged.url, good.url), gate_key_file=secret) as edge,
    ):
        forged.body = good.body = LARGE
        forged.sent_status = 201
        scene = Scene(edge, forged, secret, await edge.worker())
        assert await scene.read() == LARGE
        assert (len(forged.calls), len(good.calls)) == (1, 1)


async def test_a_repeat_after_a_broken_answer_is_answered(scene: Scene) -> None:
    scene.gate.body = LARGE
    scene.gate.cut_after = len(LARGE) // 2
    with pytest.raises(NoAnswer):
        await scene.read()
    scene.gate.cut_after = None
    assert await scene.read() == LARGE


async def test_a_repeat_goes_to_another_keeper(tmp_path: Path) -> None:
    """Of two keepers, the way to one cuts large answers."""
    secret = tmp_path / "gate.secret"
    secret.write_bytes(KEY)
    async with (
        running_gate() as bad,
        running_gate() as good,
        running_edge(tmp_path, gate_urls=(bad.url, good.url), gate_key_file=secret) as edge,
    ):
        bad.body = good.body = LARGE
        bad.cut_after = len(LARGE) // 2
        scene = Scene(edge, bad, secret, await edge.worker())
        with pytest.raises(NoAnswer):
            await scene.read()
        assert await scene.read() == LARGE
        assert (len(bad.calls), len(good.calls)) == (1, 1)


async def test_a_forged_answer_has_fewer_bytes_than_it_announces(scene: Scene) -> None:
    """As a client sees it that is not ours."""
    scene.gate.body, scene.gate.sent_instead = LARGE, LARGE[:-1] + b"?"
    reader, writer = await _asked(scene, scene.edge.relays[0].workers_url)
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert f"Content-Length: {len(LARGE)}" in head
    received = b""
    with suppress(ConnectionError):
        while piece := await reader.read(MIB):
            received += piece
    assert len(received) < len(LARGE)
    writer.close()


@pytest.mark.timeout(120)
async def test_slow_workers_cost_a_relay_little_memory(scene: Scene, tmp_path: Path) -> None:
    """Eight answers of 48 MiB that are read slowly: 384 MiB, were they kept."""
    scene.gate.body = b"x" * 48 * MIB
    extra = {"RELAY_GATE_URLS": scene.gate.url, "RELAY_GATE_KEY_FILE": str(scene.secret)}
    async with relay_process(scene.edge, tmp_path / "relay", tls=True, extra=extra) as (process, url):
        before = rss_bytes(process.pid)
        connections = [await _asked(scene, url) for _ in range(8)]
        for reader, _ in connections:
            await reader.readexactly(MIB)
        await eventually(lambda: len(scene.gate.calls) == 8)
        grown = rss_bytes(process.pid) - before
        assert grown < 40 * MIB, f"{grown / MIB:.0f} MiB"
        for _, writer in connections:
            writer.close()


async def _asked(scene: Scene, url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which a call was sent, and that receives little at once."""
    own = socket.socket()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    own.setblocking(False)
    await asyncio.get_running_loop().sock_connect(own, ("127.0.0.1", URL(url).port))
    job = await scene.edge.job(scene.worker)
    reader, writer = await asyncio.open_connection(
        sock=own,
        ssl=ssl.create_default_context(cafile=str(scene.edge.ca)),
        server_hostname="127.0.0.1",
        limit=16 * 1024,
    )
    target = routes.JOB_EXECUTION.format(job=job.id, path=PATH)
    head = f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {scene.worker.secret}\r\n\r\n"
    writer.write(head.encode())
    return reader, writer
