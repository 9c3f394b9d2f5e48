"""What stands between a worker and its relay and is in the way: proxies, load balancers, inspectors of TLS."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

_CHUNK_BYTES = 64 * 1024
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def refusal(status: str, *headers: str) -> bytes:
    """What a proxy answers that opens no tunnel."""
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "Content-Length: 0", "", ""]).encode()


@asynccontextmanager
async def proxy(answer: bytes = OPENED, *, leads_to: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A forward proxy; its URL.

    Args:
        answer: To each request.
        leads_to: The local port that each tunnel really leads to.
        tls: It is itself spoken to over TLS.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            if answer == OPENED:
                await _join(reader, writer, *await asyncio.open_connection("127.0.0.1", leads_to))
        writer.close()

    async with _listening(serve, tls) as port:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"


@asynccontextmanager
async def inspector(shown: ssl.SSLContext, relay_url: str, trusted: ssl.SSLContext) -> AsyncIterator[int]:
    """Ends TLS with a certificate of its own and speaks TLS with the relay; its port."""
    parts = urlsplit(relay_url)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            await _join(reader, writer, *await asyncio.open_connection(parts.hostname, parts.port, ssl=trusted))
        writer.close()

    async with _listening(serve, shown) as port:
        yield port


@asynccontextmanager
async def front(handler: Handler, tls: ssl.SSLContext) -> AsyncIterator[str]:
    """A web server in the relay's place; its URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def passing_on(
    relay_url: str, trusted: ssl.SSLContext, *, below: str = "", clock: timedelta = timedelta()
) -> AsyncIterator[Handler]:
    """Passes calls below a path on to a relay, and sets `Date` by its own clock."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted)) as session:

        async def handle(request: web.Request) -> web.StreamResponse:
            if not request.raw_path.startswith(f"{below}/"):
                return web.Response(status=404, text="<html>nginx: no such page</html>", content_type="text/html")
            url = URL(relay_url + request.raw_path.removeprefix(below), encoded=True)
            headers = {name: value for name, value in request.headers.items() if name not in {"Host", "Connection"}}
            async with session.request(request.method, url, headers=headers) as answer:
                kept = ("Content-Type", "X-Request-Id")
                told = {name: answer.headers[name] for name in kept if name in answer.headers}
                told["Date"] = format_datetime(datetime.now(UTC) + clock, usegmt=True)
                return web.Response(status=answer.status, body=await answer.read(), headers=told)

        yield handle


@asynccontextmanager
async def _listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], tls: ssl.SSLContext | None
) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    other_reader: asyncio.StreamReader,
    other_writer: asyncio.StreamWriter,
) -> None:
    """Both ways until one side has ended."""
    ways = [asyncio.create_task(_pour(reader, other_writer)), asyncio.create_task(_pour(other_reader, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        other_writer.close()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
