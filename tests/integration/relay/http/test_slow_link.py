"""Large bodies over a slow link, between worker and relay and between relay and gate: what moves arrives.

Each body takes longer than every limit in total that is in force here; only its progress keeps it.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.jobs import Job
from edge_service import body_progress
from edge_worker.relay import client as relay_client
from edge_worker.relay.call_result import NoAnswer, Refused
from edge_worker.relay.client import ExecutionCall, RelayClient
from support.network.link import Cut, SlowLink
from support.relay.edge import running_edge
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

    async def read(self) -> bytes:
        return (await self.client.execution(self.job.id, _call("GET", b""))).body

    async def write(self, body: bytes = BODY) -> None:
        await self.client.execution(self.job.id, _call("POST", body))

    async def until_moving(self) -> None:
        """Until some of a body has passed the link."""
        await asyncio.sleep(0.5)


def _call(method: str, body: bytes) -> ExecutionCall:
    return ExecutionCall(method, PATH, "", {"content-type": "application/json"}, body, "request-0001")


async def _scene(stack: AsyncExitStack, tmp_path: Path, *, slow_gate: bool) -> Scene:
    secret = tmp_path / "gate.secret"
    secret.write_bytes(KEY)
    gate = await stack.enter_async_context(running_gate())
    gate_url = gate.url
    if slow_gate:
        link = await stack.enter_async_context(SlowLink.to(gate.url))
        gate_url = f"http://127.0.0.1:{link.port}"
    limit_s = LIMIT_S if slow_gate else 20.0
    edge = await stack.enter_async_context(
        running_edge(tmp_path, gate_urls=(gate_url,), gate_key_file=secret, gate_timeout_s=limit_s)
    )
    worker = await edge.worker()
    relay_url = edge.relays[0].workers_url
    if not slow_gate:
        link = await stack.enter_async_context(SlowLink.to(relay_url))
        relay_url = f"https://127.0.0.1:{link.port}"
    tls = ssl.create_default_context(cafile=str(edge.ca))
    client = await stack.enter_async_context(RelayClient(relay_url, worker.secret, tls=tls, proxy=None))
    return Scene(client, await edge.job(worker), gate, link)


@pytest.fixture
async def slow_edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """The link between worker and relay is slow."""
    monkeypatch.setattr(relay_client, "EXECUTION_S", LIMIT_S)
    async with AsyncExitStack() as stack:
        yield await _scene(stack, tmp_path, slow_gate=False)


@pytest.fixture
async def slow_centre(tmp_path: Path) -> AsyncIterator[Scene]:
    """The link between relay and gate is slow."""
    async with AsyncExitStack() as stack:
        yield await _scene(stack, tmp_path, slow_gate=True)


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
    with pytest.raises(Refused) as refused:
        await reading
    assert refused.value.code == ErrorCode.GATE_UNAVAILABLE
