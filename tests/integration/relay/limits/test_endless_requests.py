"""What a client sends behind a call that still waits for its answer: it fills no memory of the relay."""

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path

import aiohttp
import orjson
import pytest
from yarl import URL

from edge_schemas.wire import routes
from support.relay.agents import agent
from support.relay.edge import Edge
from support.relay.relay_process import relay_process

MIB = 1 << 20
MOST_SENT = 64 * MIB
"""More than the system keeps for a connection on loopback: its largest receive buffer may be 32 MiB."""


def resident(process: int) -> int:
    """Bytes of memory that a process uses."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * 4096


async def send_endlessly(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Repeat until the other side stops reading, or `MOST_SENT`: of a call that it has refused, it drops the rest."""
    sent = 0
    with suppress(TimeoutError, ConnectionError):
        while sent < MOST_SENT:
            writer.write(data)
            async with asyncio.timeout(2):
                await writer.drain()
            sent += len(data)


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ("", b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n" * 1000),
        ("Connection: Upgrade\r\nUpgrade: websocket\r\n", b"x" * 65536),
        ("", b"POST /v1/poll HTTP/1.1\r\nHost: relay\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 10_000),
    ],
    ids=["calls", "after an upgrade", "a body in chunks without an end"],
)
async def test_what_follows_a_parked_poll_fills_no_memory(edge: Edge, tmp_path: Path, header: str, data: bytes) -> None:
    one = await agent(edge)
    body = orjson.dumps(one.report(free=0, poll_timeout_s=50))
    fields = f"Host: relay\r\nAuthorization: Bearer {one.secret}\r\nContent-Type: application/json\r\n{header}"
    head = f"POST {routes.POLL} HTTP/1.1\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode()
    context = ssl.create_default_context(cafile=str(edge.ca))
    async with relay_process(edge, tmp_path / "relay", tls=True) as (process, url):
        _, writer = await asyncio.open_connection("127.0.0.1", URL(url).port, ssl=context)
        try:
            before = resident(process.pid)
            writer.write(head + body)
            await send_endlessly(writer, data)
            assert resident(process.pid) - before < 32 * MIB
            connector = aiohttp.TCPConnector(ssl=context)
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.get(url + routes.HEALTHZ) as reply,
            ):
                assert reply.status == 200
        finally:
            writer.transport.abort()
