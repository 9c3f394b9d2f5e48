"""Workers that fetch a bundle from a real relay with a real NATS."""

import asyncio
import hashlib
import random
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import orjson

from edge_schemas.wire.jobs import Job
from support.relay.bundles import MadeBundle, make_bundle
from support.relay.edge import Edge, Worker
from support.relay.jobs import make_job

MIB = 1 << 20


def large_bundle(size: int) -> MadeBundle:
    """A version whose pieces can't be compressed, with some small files."""
    chance = random.Random(size)  # nothing secret
    small = {f"dags/{number}.py": b"x = %d\n" % number for number in range(50)}
    return make_bundle({"data": chance.randbytes(size), **small})


@dataclass(frozen=True)
class Fetcher:
    """A worker that holds a job of a version."""

    worker: Worker
    job: Job
    bundle: MadeBundle

    def body(self, *pieces: str, offset: int = 0) -> bytes:
        """Of a request; for all pieces unless some are named."""
        return orjson.dumps(
            {"job": self.job.id, "pieces": pieces or list(self.bundle.manifest.pieces), "offset": offset}
        )

    async def digest(self, session: aiohttp.ClientSession, url: str) -> str:
        """The SHA-256 of an answer with all pieces; as a worker, it asks again while the relay can't read them."""
        headers = {"Authorization": f"Bearer {self.worker.secret}", "Content-Type": "application/json"}
        async with asyncio.timeout(60):
            while True:
                async with session.post(url + self.bundle.pieces_path, data=self.body(), headers=headers) as answer:
                    if answer.status == 503:
                        await asyncio.sleep((await answer.json())["retry_after_s"])
                        continue
                    assert answer.status == 200, await answer.text()
                    seen = hashlib.sha256()
                    async for chunk in answer.content.iter_any():
                        seen.update(chunk)
                    return seen.hexdigest()

    @asynccontextmanager
    async def slowly(self, edge: Edge, url: str, *pieces: str) -> AsyncIterator[asyncio.StreamReader]:
        """A connection on which all pieces were asked for, and that receives little at once."""
        own = socket.socket()
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        own.setblocking(False)
        await asyncio.get_running_loop().sock_connect(own, ("127.0.0.1", urlsplit(url).port))
        tls = ssl.create_default_context(cafile=str(edge.ca))
        reader, writer = await asyncio.open_connection(
            sock=own, ssl=tls, server_hostname="127.0.0.1", limit=16 * 1024, ssl_shutdown_timeout=0.1
        )
        body = self.body(*pieces)
        lines = (
            f"POST {self.bundle.pieces_path} HTTP/1.1",
            "Host: x",
            f"Authorization: Bearer {self.worker.secret}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        )
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        try:
            yield reader
        finally:
            writer.transport.abort()


async def fetchers(edge: Edge, bundle: MadeBundle, number: int) -> list[Fetcher]:
    """So many workers, each with a job of this version."""
    found = []
    for _ in range(number):
        worker = await edge.worker()
        found.append(Fetcher(worker, await edge.job(worker, bundle.run_by(make_job())), bundle))
    return found


@asynccontextmanager
async def client(edge: Edge) -> AsyncIterator[aiohttp.ClientSession]:
    """For many connections at once."""
    tls = ssl.create_default_context(cafile=str(edge.ca))
    connector = aiohttp.TCPConnector(ssl=tls, limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        yield session
