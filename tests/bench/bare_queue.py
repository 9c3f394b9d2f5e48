"""A queue of aiohttp on uvloop over TLS and nats-py, and nothing else: what a job of a producer costs at least.

It serves the same calls as a relay, and a job has the same durable writes that are confirmed before an answer: its
record, its message, the swap at the start and the swap at the end. It has no credentials, rights, checks, order,
upkeep or metrics, and writes no arrivals of polls.

`python -m bench.bare_queue PORT CERTIFICATE KEY NATS_URL`, with the password of NATS's user `admin` in the environment.
"""

import asyncio
import os
import ssl
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import nats
import orjson
import uvloop
from aiohttp import web
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig, RetentionPolicy, StreamConfig
from nats.js.errors import FetchTimeoutError
from nats.js.kv import KeyValue

from edge_broker.permissions import ADMIN
from edge_relay.standalone.tls import TlsFiles
from edge_schemas.wire.routes import JOB_FINISH, JOB_START, POLL, QUEUE_JOB_BATCHES
from support.nats.server import PASSWORDS, eventually, free_port, running_server

PASSWORD = "BARE_QUEUE_PASSWORD"
PULLED_AT_ONCE = 32


@dataclass
class BareQueue:
    """A server that runs, with a NATS of its own."""

    pid: int
    nats_pid: int
    url: str
    session: aiohttp.ClientSession


@asynccontextmanager
async def bare_queue(directory: Path, files: TlsFiles) -> AsyncIterator[BareQueue]:
    """A server in a process of its own, until the end of the block."""
    port = free_port()
    async with running_server(directory) as server:
        arguments = (str(port), str(files.cert), str(files.key), server.url)
        environment = {**os.environ, PASSWORD: PASSWORDS[ADMIN]}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.bare_queue", *arguments, env=environment
        )
        try:
            context = ssl.create_default_context(cafile=str(files.ca_cert))
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=0)) as session:
                queue = BareQueue(process.pid, server.pid, f"https://127.0.0.1:{port}", session)
                await eventually(lambda: _answers(queue), timeout_s=60)
                yield queue
        finally:
            process.terminate()
            await process.wait()


async def _answers(queue: BareQueue) -> bool:
    try:
        async with queue.session.get(queue.url):
            return True
    except aiohttp.ClientError:
        return False


@dataclass
class _Queue:
    """The handlers, and what they know of jobs between two calls."""

    jetstream: JetStreamContext
    records: KeyValue
    waiting: asyncio.Queue[Msg] = field(default_factory=asyncio.Queue)
    granted: dict[str, Msg] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)

    async def submit(self, request: web.Request) -> web.Response:
        jobs = orjson.loads(await request.read())["jobs"]
        return _answer({"jobs": await asyncio.gather(*map(self._store, jobs))})

    async def _store(self, job: dict[str, Any]) -> dict[str, str]:
        name = str(uuid.uuid4())
        value = orjson.dumps({**job, "id": name})
        self.revisions[name] = await self.records.create(name, value)
        await self.jetstream.publish(f"bare.jobs.{name}", value)
        return {"job": name}

    async def pull(self) -> None:
        subscription = await self.jetstream.pull_subscribe("bare.jobs.*", "bare")
        while True:
            try:
                for message in await subscription.fetch(PULLED_AT_ONCE, timeout=5):
                    self.waiting.put_nowait(message)
            except FetchTimeoutError:
                continue

    async def poll(self, request: web.Request) -> web.Response:
        orjson.loads(await request.read())
        message = await self.waiting.get()
        job = orjson.loads(message.data)
        self.granted[job["id"]] = message
        return _answer({"grants": [{"job": job, "receipt": ""}]})

    async def start(self, request: web.Request) -> web.Response:
        await self._swap(request, b"running")
        await self.granted.pop(request.match_info["job"]).ack()
        return web.Response(status=204)

    async def finish(self, request: web.Request) -> web.Response:
        await self._swap(request, b"ended")
        return web.Response(status=204)

    async def _swap(self, request: web.Request, state: bytes) -> None:
        orjson.loads(await request.read())
        job = request.match_info["job"]
        self.revisions[job] = await self.records.update(job, state, self.revisions[job])


def _answer(body: object) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")


async def _serving(app: web.Application, nats_url: str) -> AsyncIterator[None]:
    client = await nats.connect(nats_url, user=ADMIN, password=os.environ[PASSWORD])
    jetstream = client.jetstream()
    await jetstream.add_stream(StreamConfig("BARE", subjects=["bare.jobs.*"], retention=RetentionPolicy.WORK_QUEUE))
    queue = _Queue(jetstream, await jetstream.create_key_value(KeyValueConfig("bare_records")))
    app.router.add_post(QUEUE_JOB_BATCHES, queue.submit)
    app.router.add_post(POLL, queue.poll)
    app.router.add_post(JOB_START, queue.start)
    app.router.add_post(JOB_FINISH, queue.finish)
    pulling = asyncio.create_task(queue.pull())
    yield
    pulling.cancel()
    await client.close()


def _serve(port: int, certificate: str, key: str, nats_url: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    app = web.Application()
    app.cleanup_ctx.append(partial(_serving, nats_url=nats_url))
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=port, ssl_context=context, access_log=None, loop=loop, print=None)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), *sys.argv[2:])
