"""A relay on real sockets over TLS with a real NATS, and everything a test of its edge needs."""

import io
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import aiohttp
import orjson
from yarl import URL

from edge_broker.connection.broker import Broker
from edge_broker.permissions import ADMIN, RELAY
from edge_broker.records import RecordStore
from edge_relay.identity.enrollment import EnrollmentStore
from edge_relay.identity.operators.access_tokens import AccessTokenStore
from edge_relay.serve import Serving, serving
from edge_relay.settings import Settings
from edge_relay.standalone import tls
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.admin.access import AccessTokenRequest, Role
from edge_schemas.life.events import Start
from edge_schemas.life.model import new_record
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import Job
from edge_schemas.wire.workers import EnrollTokenRequest, SecretKind, hash_secret, new_secret
from support.nats.server import PASSWORDS, connected, running_server
from support.network.link import Link
from support.relay.jobs import make_job


@dataclass(frozen=True)
class Reply:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    set_cookies: tuple[str, ...] = ()

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def code(self) -> str:
        """Of a problem; empty for a good answer."""
        return str(self.json["code"]) if self.headers.get("Content-Type") == routes.PROBLEM_TYPE else ""


@dataclass(frozen=True)
class Worker:
    """An enrolled worker."""

    name: str
    secret: str


class Edge:
    """One relay, or several before one NATS, and a client of it.

    Attributes:
        nats_link: Between the relays and NATS, in a linked edge.
    """

    nats_link: Link

    def __init__(self, server: NatsServer, relays: list[Serving], ca: Path, broker: Broker, access_token: str) -> None:
        self.server = server
        self.relays = relays
        self.ca = ca
        self.broker = broker
        self.records = RecordStore(broker)
        self.access = AccessTokenStore(broker)
        self.enrollments = EnrollmentStore(broker)
        self.access_token = access_token
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cafile=str(self.ca))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context), timeout=aiohttp.ClientTimeout(total=30), auto_decompress=False
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        secret: str | None = None,
        *,
        json: object = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        replica: int = 0,
        operators: bool = False,
        to_end: bool = True,
    ) -> Reply:
        """A call to the workers' listener, or the operators'; the path goes out as it is.

        Without `to_end` only the first bytes of the answer are read: it may be a stream.
        """
        assert self._session is not None
        sent = dict(headers or {})
        if secret is not None:
            sent["Authorization"] = f"Bearer {secret}"
        if json is not None:
            body = orjson.dumps(json)
            sent.setdefault("Content-Type", "application/json")
        relay = self.relays[replica]
        url = URL((relay.operators_url if operators else relay.workers_url) + path, encoded=True)
        async with self._session.request(
            method, url, data=None if body is None else io.BytesIO(body), headers=sent, allow_redirects=False
        ) as answer:
            cookies = tuple(answer.headers.getall("Set-Cookie", []))
            content = await (answer.read() if to_end else answer.content.readany())
            return Reply(answer.status, answer.headers, content, cookies)

    async def admin(self, method: str, path: str, json: object = None, **more: Any) -> Reply:
        """A call with the access token to the operators' listener."""
        return await self.call(method, path, self.access_token, json=json, operators=True, **more)

    async def access_token_for(self, name: str, **more: Any) -> str:
        """A new access token; it may do everything unless said otherwise."""
        return await create_access_token(self.broker, name, **more)

    async def act_on_worker(self, worker: str, do: str, *, replica: int = 0, **more: Any) -> Reply:
        """An operator's action on one worker, which must succeed."""
        order = {"action": {"do": do, **more}, "workers": [worker], "reason": "a test"}
        reply = await self.admin("POST", routes.ADMIN_WORKER_ACTIONS, order, replica=replica)
        assert reply.status == 200, reply.body
        assert not reply.json.get("failures"), reply.json
        return reply

    async def token(self, *, uses: int = 1, ttl_s: int = 60, site: str = "plant", queue: str = "default") -> str:
        """A new enrolment token."""
        request = EnrollTokenRequest(queues=(queue,), site=site, uses=uses, ttl_s=ttl_s)
        return (await self.enrollments.create_token(request, now=datetime.now(UTC))).token

    async def enroll(self, token: str, secret: str | None = None, *, replica: int = 0) -> Reply:
        """Enrol a worker with this secret."""
        body = {"protocol": 1, "secret_hash": hash_secret(secret or new_secret(SecretKind.WORKER)), "hostname": "h"}
        return await self.call("POST", routes.ENROLL, token, json=body, replica=replica)

    async def worker(self, **more: Any) -> Worker:
        """A new worker."""
        secret = new_secret(SecretKind.WORKER)
        reply = await self.enroll(await self.token(**more), secret)
        assert reply.status == 200, reply.body
        return Worker(reply.json["worker"], secret)

    async def job(self, worker: Worker | None = None, job: Job | None = None) -> Job:
        """A job, running on a worker if one is given."""
        job = job or make_job()
        await self.records.create(new_record(job))
        if worker is not None:
            await self.records.change(job.id, Start(worker.name, 1, datetime.now(UTC)))
        return job

    async def put_log(
        self,
        job: Job,
        worker: Worker,
        offset: int,
        data: bytes,
        *,
        replica: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Upload a chunk."""
        sent = {"Content-Type": "application/octet-stream", **(headers or {})}
        path = f"{routes.JOB_LOG.format(job=job.id)}?offset={offset}"
        return await self.call("PUT", path, worker.secret, body=data, headers=sent, replica=replica)


async def create_access_token(broker: Broker, name: str, **more: Any) -> str:
    """A new access token; it may do everything unless said otherwise."""
    request = AccessTokenRequest(**{"name": name, "role": Role.ADMIN, "ttl_s": None, **more})
    return (await AccessTokenStore(broker).create(request, now=datetime.now(UTC))).token


@asynccontextmanager
async def running_edge(
    directory: Path, *, replicas: int = 1, linked: bool = False, **settings: Any
) -> AsyncIterator[Edge]:
    """Everything from nothing; `linked` puts a link before NATS, `settings` are the relays' own."""
    files = tls.ensure(directory / "tls", ["127.0.0.1", "localhost"], now=datetime.now(UTC))
    password = directory / "relay.password"
    password.write_text(PASSWORDS[RELAY])
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(directory / "nats"))
        link = await stack.enter_async_context(Link.to(server.url)) if linked else None
        relays = []
        for number in range(replicas):
            own = Settings(
                name=f"relay-{number}",
                host="127.0.0.1",
                port=0,
                tls_cert_file=files.cert,
                tls_key_file=files.key,
                nats_urls=(f"nats://127.0.0.1:{link.port}" if link else server.url,),
                nats_password_file=password,
                **{"operators_port": 0, **settings},
            )
            relay = await stack.enter_async_context(serving(own))
            await relay.parts.broker.wait_connected(30)
            relays.append(relay)
        broker = await stack.enter_async_context(connected(server, ADMIN))
        token = await create_access_token(broker, "tests")
        edge = await stack.enter_async_context(Edge(server, relays, files.ca_cert, broker, token))
        if link:
            edge.nats_link = link
        yield edge
