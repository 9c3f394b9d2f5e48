"""Callers that ask for large answers and do not read them: they hold neither memory nor jobs for long."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime

import orjson
import pytest
from yarl import URL

from edge_schemas.life.events import Start
from edge_schemas.wire import routes
from edge_service import body_progress
from support.nats.server import eventually
from support.relay.agents import agent, metric
from support.relay.edge import Edge, running_edge
from support.relay.producers import producer, publish_message

MIB = 1 << 20


@asynccontextmanager
async def unread(edge: Edge, head: str, secret: str, body: bytes = b"") -> AsyncIterator[asyncio.StreamReader]:
    """A call on a connection of its own; its answer stays where it is until the test reads it."""
    url = URL(edge.relays[0].workers_url)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", url.port))
    context = ssl.create_default_context(cafile=str(edge.ca))
    reader, writer = await asyncio.open_connection(sock=raw, ssl=context, server_hostname="127.0.0.1", limit=1024)
    try:
        fields = f"Host: relay\r\nAuthorization: Bearer {secret}\r\nContent-Length: {len(body)}\r\n"
        kind = "Content-Type: application/json\r\n" if body else ""
        writer.write(f"{head} HTTP/1.1\r\n{fields}{kind}\r\n".encode() + body)
        yield reader
    finally:
        writer.transport.abort()


async def test_a_consumer_that_does_not_read_its_grant_loses_it(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job returns to the queue long before the grant wait of 30 s is over, and the connection is closed."""
    monkeypatch.setattr(body_progress, "STALL_S", 0.5)
    shop, one, other = await producer(edge), await agent(edge), await agent(edge)
    large = {"payload": {"text": "\x01" * 145_000}}  # six times as long in JSON
    job = await publish_message(edge, await shop.submitted(**large))
    async with unread(edge, f"POST {routes.POLL}", one.secret, orjson.dumps(one.report(kinds=["payload"]))) as reader:
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        [grant] = await asyncio.wait_for(other.grants(kinds=["payload"]), 20)
        assert grant["job"]["id"] == job.id
        with suppress(ConnectionError, ssl.SSLError):
            async with asyncio.timeout(10):
                while await reader.read(1 << 16):
                    """What was on its way; then the connection ends, and not the answer."""


async def test_logs_that_a_producer_does_not_read_use_its_share_of_memory(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Further calls of this producer are refused; those of others are answered. What stands still is ended."""
    async with running_edge(tmp_path_factory.mktemp("edge"), worker_body_memory_bytes=4 * MIB) as edge:
        shop, other, worker = await producer(edge), await producer(edge, name="other"), await edge.worker()
        job = await shop.submitted()
        await edge.records.change(job, Start(worker.name, 1, datetime.now(UTC), "g"))
        for number in range(8):
            path = f"{routes.JOB_LOG.format(job=job)}?offset={number * 256 * 1024}"
            sent = {"Content-Type": "application/octet-stream"}
            reply = await edge.call("PUT", path, worker.secret, body=b"x" * 256 * 1024, headers=sent)
            assert reply.status == 200, reply.body
        async with AsyncExitStack() as stack:
            head = f"GET {routes.JOB_LOG.format(job=job)}?offset=0"
            readers = [await stack.enter_async_context(unread(edge, head, shop.secret)) for _ in range(12)]
            first = [await reader.readline() for reader in readers]
            refused = [line for line in first if b" 429 " in line]
            assert refused
            assert len(refused) < len(first)
            assert 0 < metric(edge, "edge_relay_body_bytes") <= 4 * MIB
            assert (await other.log(job)).status == 200
            assert metric(edge, "edge_relay_limited_total", {"limit": "body_memory_of_worker"}) == len(refused)
        await eventually(lambda: metric(edge, "edge_relay_body_bytes") == 0, what="the answers have ended")
        monkeypatch.setattr(body_progress, "STALL_S", 0.5)
        async with unread(edge, head, shop.secret) as reader:
            await reader.readline()
            await eventually(lambda: metric(edge, "edge_relay_body_bytes") == 0, what="the answer has ended")
