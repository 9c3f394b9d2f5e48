"""A large XCom on its whole way, from a real api-server over keeper and relay to a worker: what moves arrives.

The answer takes longer than every limit in total that is in force here; only its progress keeps it.
"""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from bench.figures import rss_bytes
from edge_bridge.keeper.gate import upstream
from edge_broker.permissions import EXECUTOR
from edge_broker.records import RecordStore
from edge_relay.gate.client import GateClient
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.gate.auth import GateCall
from edge_schemas.life.events import Start
from edge_schemas.wire.routes import GATE_EXECUTION
from edge_service import body_progress
from edge_service.body_memory import UNCOUNTED
from edge_worker.relay import client as relay_client
from edge_worker.relay.client import ExecutionCall, RelayClient
from support.airflow.keeper import KEY, WORKER, Handler, keeper_settings, publish, running_keeper
from support.airflow.keeper_process import keeper_process
from support.airflow.real_airflow import DAG_ID, RUN_ID, RealAirflow, TaskIds, add_task
from support.nats.server import connected, eventually, free_port
from support.network.link import SlowLink
from support.relay.edge import Edge, running_edge

MIB = 1 << 20
LIMIT_S = 2.5

pytestmark = pytest.mark.timeout(180)  # the first one starts Airflow


@dataclass
class Way:
    """From a worker to Airflow.

    Attributes:
        to_relay: The worker's link; fast unless a test makes it slow.
        to_airflow: The keeper's link; fast unless a test makes it slow.
    """

    client: RelayClient
    ids: TaskIds
    to_relay: SlowLink
    to_airflow: SlowLink

    async def call(self, method: str, value: object = None) -> bytes:
        """One try of a call about an XCom of the task."""
        path = f"xcoms/{DAG_ID}/{RUN_ID}/{self.ids.task_id}/k"
        body = b"" if value is None else orjson.dumps(value)
        call = ExecutionCall(method, path, "", {"content-type": "application/json"}, body, f"request-{method}")
        return (await self.client.execution(self.ids.job, call)).body


async def _link(stack: AsyncExitStack, url: str) -> SlowLink:
    link = await stack.enter_async_context(SlowLink.to(url))
    link.bytes_per_s = 200 * MIB
    return link


@pytest.fixture
async def way(airflow: RealAirflow, tmp_path: Path) -> AsyncIterator[Way]:
    secret, port = tmp_path / "gate.secret", free_port()
    secret.write_bytes(KEY)
    gate: dict[str, Any] = {"gate_urls": (f"http://127.0.0.1:{port}",), "gate_key_file": secret}
    async with AsyncExitStack() as stack:
        edge: Edge = await stack.enter_async_context(running_edge(tmp_path, gate_timeout_s=LIMIT_S, **gate))
        to_airflow = await _link(stack, airflow.url)
        url = f"http://127.0.0.1:{to_airflow.port}/execution/"
        settings = replace(keeper_settings(edge.server, airflow), gate_port=port, execution_api_url=url)
        await stack.enter_async_context(running_keeper(settings))
        to_relay = await _link(stack, edge.relays[0].workers_url)
        worker, ids = await edge.worker(), add_task(state="running")
        await publish(edge.records, ids)
        await edge.records.change(ids.job, Start(worker.name, 1, datetime.now(UTC)))
        tls, url = ssl.create_default_context(cafile=str(edge.ca)), f"https://127.0.0.1:{to_relay.port}"
        client = await stack.enter_async_context(RelayClient(url, worker.secret, tls=tls, proxy=None))
        yield Way(client, ids, to_relay, to_airflow)


def short_limits(monkeypatch: pytest.MonkeyPatch, *, stall_s: float, slowest: int) -> None:
    """In force from now on, at each hop."""
    monkeypatch.setattr(body_progress, "STALL_S", stall_s)
    monkeypatch.setattr(body_progress, "SLOWEST_BYTES_PER_S", slowest)
    monkeypatch.setattr(relay_client, "EXECUTION_S", LIMIT_S)
    monkeypatch.setattr(upstream, "CALL_TIMEOUT_S", LIMIT_S)


async def test_a_large_answer_arrives_from_a_slow_api_server(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """6 s, where relay and worker wait 2.5 s for an answer to begin."""
    value = "x" * 6 * MIB
    await way.call("POST", value)
    short_limits(monkeypatch, stall_s=LIMIT_S, slowest=128 * 1024)
    way.to_airflow.bytes_per_s = MIB
    assert orjson.loads(await way.call("GET"))["value"] == value


async def test_a_large_write_arrives_at_a_slow_api_server(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    value = "x" * 6 * MIB
    short_limits(monkeypatch, stall_s=LIMIT_S, slowest=512 * 1024)
    way.to_airflow.bytes_per_s = way.to_relay.bytes_per_s = 2 * MIB
    await way.call("POST", value)
    way.to_airflow.bytes_per_s = way.to_relay.bytes_per_s = 200 * MIB
    assert orjson.loads(await way.call("GET"))["value"] == value


@pytest.mark.slow
async def test_a_worker_that_is_hardly_fast_enough_gets_a_large_answer(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What keeper, relay and their systems hold moves in steps: none takes longer than a body may stand still."""
    value = "x" * MIB
    await way.call("POST", value)
    hardly_fast_enough(way, monkeypatch)
    assert orjson.loads(await way.call("GET"))["value"] == value


@pytest.mark.slow
async def test_a_worker_that_is_hardly_fast_enough_sends_a_large_write(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = "x" * MIB
    hardly_fast_enough(way, monkeypatch)
    await way.call("POST", value)
    way.to_relay.bytes_per_s = 200 * MIB
    assert orjson.loads(await way.call("GET"))["value"] == value


def hardly_fast_enough(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter above the slowest rate, at which a body may stand still for 240 KiB, as it may by default."""
    slowest = 64 * 1024
    short_limits(monkeypatch, stall_s=240 * 1024 / slowest, slowest=slowest)
    way.to_relay.bytes_per_s = slowest * 5 // 4


@pytest.mark.slow
async def test_slow_workers_cost_a_keeper_little_memory(airflow: RealAirflow, nats: NatsServer, tmp_path: Path) -> None:
    """Six answers of 30 MiB that are not read: 180 MiB, were they kept. The budget counts what the api-server holds."""
    sent = 0
    body = b"x" * MIB

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = 30 * MIB
        await response.prepare(request)
        for _ in range(30):
            await response.write(body)
            sent += MIB
        return response

    ids = add_task(state="running")
    target = GATE_EXECUTION.format(job=ids.job, path="variables/x")
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(served(answer))
        memory = {"AIRFLOW__EDGE_RELAY__WORKER_BODY_MEMORY_BYTES": str(256 * MIB)}
        keeper = await stack.enter_async_context(keeper_process(nats, f"{url}/execution/", tmp_path, **memory))
        broker = await stack.enter_async_context(connected(nats, EXECUTOR))
        await publish(RecordStore(broker), ids)
        await RecordStore(broker).change(ids.job, Start(WORKER, 1, datetime.now(UTC)))
        relay = await stack.enter_async_context(GateClient((keeper.gate,), KEY))
        call = GateCall("GET", target, WORKER, "request-0001", b"")
        async with relay.streamed(call, {}, UNCOUNTED):
            """The first one costs what is loaded once."""
        before = rss_bytes(keeper.process.pid)
        for _ in range(6):
            answered = await stack.enter_async_context(relay.streamed(call, {}, UNCOUNTED))
            assert answered.streamed is not None
        at_rest = await settled(lambda: sent)
        grown = rss_bytes(keeper.process.pid) - before
        assert grown < 6 * 3 * MIB, f"{grown / MIB:.1f} MiB"
        # The rest is in the systems of three processes on one machine.
        assert at_rest < 6 * 15 * MIB


async def settled(figure: Callable[[], int]) -> int:
    """The figure once it has not changed for a while."""
    seen: list[int] = []

    def is_the_same() -> bool:
        seen.append(figure())
        return len(seen) > 20 and len(set(seen[-20:])) == 1

    await eventually(is_the_same)
    return seen[-1]


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[str]:
    """A server in the api-server's place; its URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
