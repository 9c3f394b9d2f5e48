"""What is no HTTP is answered, counted, and reported now and then: it writes no line of its own at level error."""

import asyncio
import logging
import ssl
from contextlib import suppress

import pytest
from structlog.testing import capture_logs
from yarl import URL

from edge_schemas.wire import routes
from support.nats.server import eventually
from support.relay.agents import agent, metric
from support.relay.edge import Edge


async def send(edge: Edge, data: bytes) -> bytes:
    """Send bytes on a connection of their own; returns what the relay answers until it closes."""
    port = URL(edge.relays[0].workers_url).port
    context = ssl.create_default_context(cafile=str(edge.ca))
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(data)
    answer = b""
    with suppress(ConnectionError):
        async with asyncio.timeout(10):
            answer = await reader.read()
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return answer


def malformed(secret: str) -> list[bytes]:
    """Heads and bodies that are wrong in a way that the HTTP parser finds."""
    head = f"POST {routes.POLL} HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer {secret}\r\n".encode()
    json = head + b"Content-Type: application/json\r\n"
    return [
        b"\x16\x03\x01 no HTTP at all\r\n\r\n",
        b"GET / HTTP/9.9.9\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: relay\r\n\r\n",
        head + b"X: \x00\r\n\r\n",
        head + b"no colon\r\n\r\n",
        head + b"X: " + b"x" * 20_000 + b"\r\n\r\n",
        head + b"".join(b"X%d: x\r\n" % number for number in range(500)) + b"\r\n",
        head + b"Content-Length: -1\r\n\r\n",
        head + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        json + b"Transfer-Encoding: chunked\r\n\r\nnot a length\r\n",
        json + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcdefgh\r\n",
        json + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n",
    ]


async def test_malformed_requests(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    one = await agent(edge)
    requests = malformed(one.secret)
    with capture_logs() as logs:
        for request in requests:
            answer = await send(edge, request)
            assert answer[:12] in {b"HTTP/1.1 400", b"HTTP/1.0 400", b""}, (request[:200], answer)
    errors = [line for line in logs if line["log_level"] in {"error", "critical"}]
    errors += [record for record in caplog.records if record.levelno >= logging.ERROR]  # type: ignore[misc]  # any line
    assert not errors
    counted = metric(edge, "edge_relay_malformed_requests_total")
    assert counted == len(requests)
    reports = [line for line in logs if line["event"] == "requests_malformed"]
    assert len(reports) == 1
    assert one.secret not in caplog.text
    assert one.secret not in str(logs)
    assert (await one.poll(poll_timeout_s=0)).status == 204


async def test_a_flood_writes_one_line(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    with capture_logs() as logs:
        await asyncio.gather(*(send(edge, b"GET / HTTP/9.9.9\r\n\r\n") for _ in range(50)))
        await eventually(lambda: metric(edge, "edge_relay_malformed_requests_total") == 50, what="all are counted")
    assert len([line for line in logs if line["event"] == "requests_malformed"]) == 1
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
