"""Bodies are read from known callers only, up to the size that a call needs, and within a budget of memory."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from aiohttp import web
from yarl import URL

from edge_relay.app import build
from edge_schemas.admin.access import Role
from edge_schemas.wire import routes
from edge_schemas.wire.job_calls import MAX_FINISH_BYTES
from edge_schemas.wire.workers import SecretKind, hash_secret, new_secret
from support.nats.server import eventually
from support.relay.agents import Agent, agent, metric, publish
from support.relay.edge import Edge, Worker, running_edge
from support.relay.fake_gate import KEY, FakeGate, running_gate

MIB = 1 << 20
NO_BODY = {"GET", "HEAD"}


class Client:
    """A connection on which a test sends as much of a request as it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, edge: Edge) -> "Client":
        context = ssl.create_default_context(cafile=str(edge.ca))
        own = socket.socket()
        own.setblocking(False)
        # Small, so that an answer that is not read stays at the relay.
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        await asyncio.get_running_loop().sock_connect(own, ("127.0.0.1", URL(edge.relays[0].workers_url).port))
        return cls(*await asyncio.open_connection(sock=own, ssl=context, server_hostname="localhost"))

    async def begin(self, method: str, path: str, secret: str, *, length: int, content_type: str) -> None:
        """Send the head of a request that announces a body."""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer {secret}\r\n"
            f"Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
        )
        await self.send(head.encode())

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def status(self) -> int:
        """Of the answer, which must come now."""
        async with asyncio.timeout(10):
            return int((await self._reader.readline()).split()[1])

    async def head(self) -> str:
        """Of the answer, from its status line on."""
        async with asyncio.timeout(10):
            return (await self._reader.readuntil(b"\r\n\r\n")).decode()

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


def calls_with_bodies(edge: Edge) -> list[tuple[str, str]]:
    """Method and path of each call of the workers' listener that may have a body."""
    found = []
    app: web.Application = build(edge.relays[0].parts.settings).workers
    for route in app.router.routes():
        assert route.resource is not None
        path = route.resource.canonical.replace("{digest}", "0" * 64)
        for name in ("job", "path", "queue", "bundle"):
            path = path.replace(f"{{{name}}}", "00000000-0000-0000-0000-000000000000")
        if route.method not in NO_BODY:
            found.append((route.method, path))
    return found


async def test_no_body_is_read_from_a_stranger(edge: Edge) -> None:
    """The refusal comes although no byte of the body has arrived, whatever the call is."""
    calls = calls_with_bodies(edge)
    assert ("POST", routes.ENROLL) in calls
    assert len(calls) >= 9
    for method, path in calls:
        for kind in (SecretKind.WORKER, SecretKind.ENROLLMENT):
            client = await Client.open(edge)
            offset = "?offset=0" if path.endswith("/log") else ""
            await client.begin(method, path + offset, new_secret(kind), length=4000, content_type="application/json")
            assert await client.status() in {401, 403}, (method, path)
            await client.close()
    assert edge.relays[0].parts.limits.body_memory.used == 0


@asynccontextmanager
async def edge_with_gate(tmp_path: Path, *, memory: int, of_worker: int) -> AsyncIterator[tuple[FakeGate, Edge]]:
    """A relay with so much memory for bodies, and the gate that it calls."""
    secret = tmp_path / "gate.secret"
    secret.write_bytes(KEY)
    async with (
        running_gate() as gate,
        running_edge(
            tmp_path,
            gate_urls=(gate.url,),
            gate_key_file=secret,
            body_memory_bytes=memory,
            worker_body_memory_bytes=of_worker,
        ) as edge,
    ):
        yield gate, edge


async def test_one_worker_holds_back_bodies(tmp_path: Path) -> None:
    """It gets its own share of the memory; its later calls are told to wait, and others notice nothing."""
    async with edge_with_gate(tmp_path, memory=16 * MIB, of_worker=4 * MIB) as (_, edge):
        memory = edge.relays[0].parts.limits.body_memory
        greedy, other = await edge.worker(), await edge.worker()
        clients = [await _hold_back(edge, greedy, 3 * MIB) for _ in range(3)]
        statuses = {await _refused(client) for client in clients[1:]}
        assert statuses == {429}
        assert memory.used <= 4 * MIB
        assert (await Agent(edge, other).poll(poll_timeout_s=0)).status == 204
        job = await edge.job(other)
        path = routes.JOB_EXECUTION.format(job=job.id, path=f"task-instances/{job.task.ti_id}/run" if job.task else "")
        reply = await edge.call("PATCH", path, other.secret, body=b"x" * 3 * MIB)
        assert reply.status == 200
        assert metric(edge, "edge_relay_limited_total", {"limit": "body_memory_of_worker"}) >= 2
        for client in clients:
            await client.close()
        await eventually(_is_empty(edge), what="the memory is free again")


async def test_many_workers_hold_back_bodies(tmp_path: Path) -> None:
    """Together they fill what is for large bodies; polls, starts and logs still arrive."""
    async with running_edge(tmp_path, body_memory_bytes=16 * MIB, worker_body_memory_bytes=4 * MIB) as edge:
        memory = edge.relays[0].parts.limits.body_memory
        clients = [await _hold_back(edge, await edge.worker(), 3 * MIB) for _ in range(6)]

        async def is_refused() -> bool:
            return metric(edge, "edge_relay_limited_total", {"limit": "body_memory"}) >= 2

        await eventually(is_refused, what="there is no room for more")
        assert memory.used <= 12 * MIB
        one = await agent(edge)
        await publish(edge.broker)
        [grant] = await one.grants(1)
        assert (await one.start(grant)).status == 204
        job = await edge.job(Worker(one.name, one.secret))
        assert (await edge.put_log(job, Worker(one.name, one.secret), 0, b"x" * 100_000)).status == 200
        for client in clients:
            await client.close()
        await eventually(_is_empty(edge), what="the memory is free again")


async def test_a_worker_leaves_answers_unread(tmp_path: Path) -> None:
    """A part of each is in memory. For more of them it is told to wait, and other workers get their answers."""
    async with edge_with_gate(tmp_path, memory=16 * MIB, of_worker=4 * MIB) as (gate, edge):
        gate.body = b"x" * 32 * MIB
        greedy, other = await edge.worker(), await edge.worker()
        clients = []
        for _ in range(18):
            client = await Client.open(edge)
            path = routes.JOB_EXECUTION.format(job=(await edge.job(greedy)).id, path="xcoms/d/r/t/k")
            await client.begin("GET", path, greedy.secret, length=0, content_type="application/json")
            clients.append(client)

        def is_refused() -> bool:
            return metric(edge, "edge_relay_limited_total", {"limit": "body_memory_of_worker"}) >= 2

        await eventually(is_refused, what="there is no memory for two of the answers")
        assert edge.relays[0].parts.limits.body_memory.used <= 4 * MIB
        path = routes.JOB_EXECUTION.format(job=(await edge.job(other)).id, path="xcoms/d/r/t/k")
        reply = await edge.call("GET", path, other.secret)
        assert (reply.status, len(reply.body)) == (200, 32 * MIB)
        for client in clients:
            await client.close()
        await eventually(_is_empty(edge), what="the memory is free again")


async def test_small_calls_have_small_bodies(edge: Edge) -> None:
    """Each has what it needs at most, in the widest letters, and no more."""
    token = await edge.token()
    widest = "\N{OLD ITALIC LETTER A}"
    for size, status in ((8193, 413), (100, 400)):
        reply = await edge.call(
            "POST", routes.ENROLL, token, body=b" " * size, headers={"Content-Type": "application/json"}
        )
        assert reply.status == status
    enrollment = {"protocol": 1, "secret_hash": hash_secret("x"), "hostname": "h" * 253, "airflow": widest * 120}
    assert (await edge.call("POST", routes.ENROLL, token, json=enrollment)).status == 200
    worker = await edge.worker()
    finish = {"incarnation": 1, "receipt": "x" * 2048, "reason": widest * 1000}
    release = {"receipt": "x" * 2048, "reason": widest * 500}
    job = await edge.job(worker)
    for route, body, most in ((routes.JOB_FINISH, finish, MAX_FINISH_BYTES), (routes.JOB_RELEASE, release, 8192)):
        reply = await edge.call("POST", route.format(job=job.id), worker.secret, json=body)
        assert reply.status != 413
        too_large = b" " * (most + 1)
        headers = {"Content-Type": "application/json"}
        reply = await edge.call("POST", route.format(job=job.id), worker.secret, body=too_large, headers=headers)
        assert reply.status == 413


async def test_a_producer_holds_back_bodies(tmp_path: Path) -> None:
    """Batches of one producer that never end: it is told to wait, and workers notice nothing."""
    async with running_edge(tmp_path, body_memory_bytes=16 * MIB, worker_body_memory_bytes=4 * MIB) as edge:
        secret = await edge.access_token_for("shop", role=Role.PRODUCER, queues=["default"])
        path = routes.QUEUE_JOB_BATCHES.format(queue="default")
        clients = [await Client.open(edge) for _ in range(3)]
        for client in clients:
            await client.begin("POST", path, secret, length=7 * MIB, content_type="application/json")
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(2):
                    await client.send(b" " * 3 * MIB)
        await eventually(lambda: metric(edge, "edge_relay_limited_total", {"limit": "body_memory_of_worker"}) >= 2)
        assert edge.relays[0].parts.limits.body_memory.used <= 4 * MIB
        one = await agent(edge)
        await publish(edge.broker)
        [grant] = await one.grants(1)
        assert (await one.start(grant)).status == 204
        for client in clients:
            await client.close()
        await eventually(_is_empty(edge), what="the memory is free again")


async def _hold_back(edge: Edge, worker: Worker, size: int) -> Client:
    """A call of a task whose last byte never comes."""
    job = await edge.job(worker)
    client = await Client.open(edge)
    path = routes.JOB_EXECUTION.format(job=job.id, path=f"task-instances/{job.task.ti_id}/run" if job.task else "")
    await client.begin("PATCH", path, worker.secret, length=size, content_type="application/json")
    with suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(5):
            await client.send(b"x" * (size - 1))
    return client


async def _refused(client: Client) -> int:
    head = await client.head()
    assert "Retry-After: 2" in head
    return int(head.split()[1])


def _is_empty(edge: Edge) -> Callable[[], bool]:
    return lambda: edge.relays[0].parts.limits.body_memory.used == 0
