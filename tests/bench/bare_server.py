"""A server of aiohttp on uvloop over TLS that only lets its calls wait: what the relay's idle polls cost at least.

`python -m bench.bare_server PORT CERTIFICATE KEY`. A call names in a header how long it waits.
"""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import uvloop
from aiohttp import web

from edge_relay.standalone.tls import TlsFiles
from support.nats.server import eventually, free_port

WAIT_HEADER = "X-Wait-S"


@dataclass
class BareServer:
    """A server that runs."""

    pid: int
    url: str
    session: aiohttp.ClientSession

    async def call(self, wait_s: float) -> None:
        """A call with a body of a poll's size."""
        async with self.session.post(self.url, data=bytes(250), headers={WAIT_HEADER: str(wait_s)}) as reply:
            assert reply.status == 204


@asynccontextmanager
async def bare_server(files: TlsFiles) -> AsyncIterator[BareServer]:
    """A server in a process of its own, until the end of the block."""
    port = free_port()
    arguments = (str(port), str(files.cert), str(files.key))
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.bare_server", *arguments)
    try:
        context = ssl.create_default_context(cafile=str(files.ca_cert))
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            server = BareServer(process.pid, f"https://127.0.0.1:{port}/", session)
            await eventually(lambda: _answers(server), timeout_s=20)
            yield server
    finally:
        process.terminate()
        await process.wait()


async def _answers(server: BareServer) -> bool:
    try:
        await server.call(0)
    except aiohttp.ClientError:
        return False
    return True


async def _wait(request: web.Request) -> web.Response:
    await asyncio.sleep(float(request.headers[WAIT_HEADER]))
    return web.Response(status=204)


def _serve(port: int, certificate: str, key: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    app = web.Application()
    app.add_routes([web.post("/", _wait)])
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=port, ssl_context=context, access_log=None, loop=loop, print=None)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), *sys.argv[2:])
