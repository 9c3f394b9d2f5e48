"""Connections of strangers, idle or not, keep neither workers nor probes from a replica."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from edge_schemas.wire import routes
from edge_schemas.wire.workers import SecretKind, new_secret
from support.nats.server import eventually
from support.relay.agents import Agent, agent, both, metric, publish
from support.relay.edge import Edge, running_edge
from support.relay.relay_process import relay_process


@asynccontextmanager
async def idle(port: int, number: int) -> AsyncIterator[list[socket.socket]]:
    """Connections that send nothing."""
    opened = []
    try:
        for _ in range(number):
            one = socket.socket()
            one.setblocking(False)
            opened.append(one)
            await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", port))
        yield opened
    finally:
        for one in opened:
            one.close()


def open_files(process: int | str = "self") -> int:
    return sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())


def port_of(edge: Edge) -> int:
    port = URL(edge.relays[0].workers_url).port
    assert port is not None
    return port


def fresh_client(edge: Edge) -> Edge:
    """Another client of the same relays, without connections."""
    return Edge(edge.server, edge.relays, edge.ca, edge.broker, edge.access_token)


async def serves(edge: Edge, one: Agent) -> None:
    """A worker polls, and both probes get their answers, each on a new connection."""
    async with fresh_client(edge) as client:
        assert (await client.call("GET", routes.HEALTHZ)).status == 200
    async with fresh_client(edge) as client:
        report = one.report(free=0, poll_timeout_s=0)
        assert (await client.call("POST", routes.POLL, one.secret, json=report, headers=one.headers)).status == 204
    async with fresh_client(edge) as client:
        assert (await client.call("GET", routes.METRICS, operators=True)).status == 200


async def test_hundreds_of_idle_strangers(tmp_path: Path) -> None:
    """More of them than there may be connections at all."""
    async with running_edge(tmp_path, max_connections=64) as edge:
        one = await agent(edge)
        assert (await one.poll(poll_timeout_s=0)).status == 204
        files = open_files()
        async with idle(port_of(edge), 320):
            await serves(edge, one)
            assert (await one.poll(poll_timeout_s=0)).status == 204
            assert metric(edge, "edge_relay_connections", {"of": "strangers"}) <= 64
            assert metric(edge, "edge_relay_limited_total", {"limit": "connections"}) >= 200
        # Nothing is left of them, whether they were pushed out during the handshake or left by themselves.
        await eventually(lambda: open_files() <= files, what="all files are closed")


async def test_a_parked_poll_and_its_grant_survive_a_flood(tmp_path: Path) -> None:
    async with running_edge(tmp_path, max_connections=64) as edge:
        one = await agent(edge)

        async def flood_and_publish() -> None:
            async with idle(port_of(edge), 200):
                await publish(edge.broker)

        grants, _ = await both([one.grants(1), flood_and_publish()])
        assert len(grants) == 1


async def test_one_address_has_its_share(tmp_path: Path) -> None:
    async with running_edge(tmp_path, strangers_per_address=8) as edge:
        one = await agent(edge)
        async with idle(port_of(edge), 50):
            await serves(edge, one)
            assert metric(edge, "edge_relay_limited_total", {"limit": "connections_of_address"}) >= 40
            assert metric(edge, "edge_relay_connections", {"of": "strangers"}) <= 8


@pytest.mark.parametrize("tls", [False, True], ids=["before TLS", "after TLS"])
async def test_a_stranger_has_little_time(tmp_path: Path, tls: bool) -> None:
    """For TLS and its first call together; bytes that trickle in do not prolong it."""
    async with running_edge(tmp_path, first_request_s=1) as edge:
        one = await agent(edge)
        context = ssl.create_default_context(cafile=str(edge.ca)) if tls else None
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(edge), ssl=context)
        if tls:
            writer.write(b"POST /v1/poll HTTP/1.1\r\nHost: relay\r\n")
        with suppress(ConnectionError):
            async with asyncio.timeout(10):
                assert await reader.read() == b""
        writer.close()
        assert metric(edge, "edge_relay_limited_total", {"limit": "first_request"}) == 1
        # A known connection is kept.
        for _ in range(4):
            assert (await one.poll(poll_timeout_s=0.5)).status == 204
        assert metric(edge, "edge_relay_connections", {"of": "workers"}) >= 1
        assert metric(edge, "edge_relay_limited_total", {"limit": "first_request"}) == 1


async def test_an_idle_connection_of_a_worker_is_closed(tmp_path: Path) -> None:
    """A poll that waits is not idle."""
    async with running_edge(tmp_path, idle_s=1) as edge:
        one = await agent(edge)
        assert (await one.poll(free=0, poll_timeout_s=2)).status == 204
        of_workers = {"of": "workers"}
        assert metric(edge, "edge_relay_connections", of_workers) >= 1
        await eventually(lambda: not metric(edge, "edge_relay_connections", of_workers), what="it is closed")


async def test_a_stranger_has_one_call_for_each_connection(edge: Edge) -> None:
    """Refused or not: no idle connection is left of it. Those of workers are kept for their next calls."""
    one = await agent(edge)
    secret, token = new_secret(SecretKind.WORKER), new_secret(SecretKind.ENROLLMENT)
    async with fresh_client(edge) as client:
        for reply in (
            await client.call("GET", routes.HEALTHZ),
            await client.call("GET", routes.OPENAPI),
            await client.call("POST", routes.POLL, secret, json={}),
            await client.call("POST", routes.ENROLL, token, json={}),
        ):
            assert reply.headers["Connection"] == "close"
    of_strangers = {"of": "strangers"}
    await eventually(lambda: not metric(edge, "edge_relay_connections", of_strangers), what="no stranger is left")
    for _ in range(3):
        assert "Connection" not in (await one.poll(poll_timeout_s=0)).headers
    assert metric(edge, "edge_relay_connections", {"of": "workers"}) >= 1


async def test_one_worker_has_its_connections_and_no_more(tmp_path: Path) -> None:
    async with running_edge(tmp_path, connections_per_worker=8) as edge:
        greedy, other = await agent(edge), await agent(edge)
        replies = await both([greedy.poll(poll_timeout_s=0.5, seq=number) for number in range(1, 20)])
        codes = {reply.code for reply in replies}
        assert "rate_limited" in codes
        assert (await other.poll(poll_timeout_s=0)).status == 204
        assert metric(edge, "edge_relay_limited_total", {"limit": "connections_of_worker"}) >= 1


async def test_idle_connections_to_the_operators_listener(tmp_path: Path) -> None:
    """They have their own room, and neither side takes any from the other."""
    async with running_edge(tmp_path, operators_connections=8) as edge:
        one = await agent(edge)
        port = URL(edge.relays[0].operators_url).port
        assert port is not None
        async with idle(port, 100):
            await serves(edge, one)


async def test_clients_behind_a_trusted_load_balancer(tmp_path: Path) -> None:
    """Each has its own rate, and operators see its address; without trust the header changes nothing."""
    for trusted, seen in (("127.0.0.0/8", "198.51.100.7"), ("", "127.0.0.1")):
        folder = tmp_path / (trusted.partition("/")[0] or "none")
        folder.mkdir()
        async with running_edge(folder, trusted_proxies=trusted, lookups_per_address_per_s=1) as edge:
            one = await agent(edge)
            report = one.report(poll_timeout_s=0)
            header = {"X-Forwarded-For": "192.0.2.1, 198.51.100.7"}
            assert (await edge.call("POST", routes.POLL, one.secret, json=report, headers=header)).status == 204
            entry = await edge.relays[0].parts.workers.get(one.name)
            assert entry is not None
            assert entry.agent.address == seen
            statuses = set()
            for number in range(30):
                strange = {"X-Forwarded-For": f"198.51.100.{number}"}
                reply = await edge.call("POST", routes.POLL, new_secret(SecretKind.WORKER), json={}, headers=strange)
                statuses.add(reply.status)
            assert (429 in statuses) is not bool(trusted)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_a_replica_with_few_files(tmp_path: Path, tls: bool) -> None:
    """The sum of all connections stays below the limit of open files, whatever strangers do; on uvloop, as served."""
    async with running_edge(tmp_path) as edge:
        worker = await edge.worker()
        context = ssl.create_default_context(cafile=str(edge.ca))
        async with (
            relay_process(edge, tmp_path / "second", open_files=300, tls=tls) as (process, url),
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        ):
            port = URL(url).port
            assert port is not None
            before = open_files(process.pid)
            async with idle(port, 320):
                for number in range(1, 6):
                    async with session.get(f"{url}/healthz") as answer:
                        assert answer.status == 200
                    headers = {"Authorization": f"Bearer {worker.secret}", "Connection": "close"}
                    body = Agent(edge, worker).report(poll_timeout_s=0, free=0, seq=number)
                    async with session.post(f"{url}/v1/poll", json=body, headers=headers) as answer:
                        assert answer.status == 204
                assert open_files(process.pid) < 250
                assert process.returncode is None
            await eventually(lambda: open_files(process.pid) <= before + 4, what="their files are closed")
