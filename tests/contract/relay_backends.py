"""The fake relay and a real one with NATS, with the same handles for a test."""

import base64
import io
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import orjson
from yarl import URL

from edge_broker.bundles.store import BundleStore
from edge_broker.layout import ensure_consumer
from edge_broker.subjects import LOGS, job_subject, log_subject
from edge_schemas.gate.centre import CentreFacts
from edge_schemas.life.events import GiveUp, Withdraw
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import Job, JobKind, Signature, Signed
from edge_schemas.wire.polls import PROTOCOL
from edge_schemas.wire.workers import SecretKind, hash_secret, new_secret
from support.relay.agents import publish
from support.relay.bundles import MadeBundle, publish_bundle
from support.relay.edge import Edge, Reply, running_edge
from support.relay.fake_gate import KEY, FakeGate, running_gate
from support.relay.fake_relay import ENROLL_TOKEN, FakeRelay, SeenCall, execution_answer

_SET = Signed(payload="{}", signatures=(Signature(key="0" * 16, value="AA=="),))
CENTRE = CentreFacts(airflow_version="3.2.5", python_version="3.12.1", signing_keys=(_SET,))
"""What a relay hands out unread."""


class RelayBackend(Protocol):
    """A relay as a test of workers uses one."""

    queue: str

    @property
    def url(self) -> str:
        """Base address of the workers' listener."""

    @property
    def tls(self) -> ssl.SSLContext | bool:
        """For a client of it."""

    async def enroll_token(self) -> str:
        """A token with at least two uses."""

    async def publish(self, job: Job) -> None:
        """A job that waits in the workers' queue."""

    async def withdraw(self, job: str) -> None:
        """Airflow wants the job no more."""

    async def give_up(self, job: str) -> None:
        """The worker of the job has been silent for too long."""

    async def revoke(self, worker: str) -> None:
        """An operator revokes the worker's credential."""

    async def rotate(self, worker: str) -> None:
        """An operator asks the worker for a new secret, for the first time."""

    async def publish_bundle(self, bundle: MadeBundle) -> None:
        """A version of a bundle is published."""

    async def remove_piece(self, piece: str) -> None:
        """A piece of a bundle is no longer stored, and the relay has forgotten it."""

    def answer_execution(self, status: int, body: Any) -> None:
        """The Execution API's answer to all calls from here on."""

    def execution_calls(self) -> list[tuple[str, str, str]]:
        """Method, path as sent, and request id of each call that was passed on."""

    def log(self, job: Job) -> Awaitable[bytes]:
        """The stored log of a job, as its readers see it."""


@dataclass
class Fake:
    """See `RelayBackend`."""

    relay: FakeRelay
    queue: str
    tls: ssl.SSLContext | bool = True

    @property
    def url(self) -> str:
        return self.relay.url

    async def enroll_token(self) -> str:
        return ENROLL_TOKEN

    async def publish(self, job: Job) -> None:
        await self.relay.publish(job)

    async def withdraw(self, job: str) -> None:
        await self.relay.withdraw(job)

    async def give_up(self, job: str) -> None:
        self.relay.give_up(job)

    async def revoke(self, worker: str) -> None:
        self.relay.revoked.add(worker)

    async def rotate(self, _: str) -> None:
        await self.relay.order(rotation=1)

    async def publish_bundle(self, bundle: MadeBundle) -> None:
        self.relay.bundles.publish(bundle)

    async def remove_piece(self, piece: str) -> None:
        del self.relay.bundles.frames[piece]

    def answer_execution(self, status: int, body: Any) -> None:
        async def answer(_: SeenCall) -> Any:
            return execution_answer(status, body)

        self.relay.execution = answer

    def execution_calls(self) -> list[tuple[str, str, str]]:
        return [(call.method, call.raw_path, call.request_id) for call in self.relay.calls]

    async def log(self, job: Job) -> bytes:
        return bytes(self.relay.logs[job.id])


@dataclass
class Real:
    """See `RelayBackend`."""

    edge: Edge
    gate: FakeGate
    queue: str

    @property
    def url(self) -> str:
        return self.edge.relays[0].workers_url

    @property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.edge.ca))

    async def enroll_token(self) -> str:
        return await self.edge.token(uses=2, queue=self.queue)

    async def publish(self, job: Job) -> None:
        await publish(self.edge.broker, job)

    async def withdraw(self, job: str) -> None:
        await self.edge.records.change(job, Withdraw("marked as failed", datetime.now(UTC)))

    async def give_up(self, job: str) -> None:
        _, record = await self.edge.records.change(job, GiveUp("no contact", datetime.now(UTC)))
        # The executor publishes a job again that waits once more.
        body = record.job.model_dump_json().encode() if record.job is not None else b""
        await self.edge.broker.store(job_subject(record.team, record.queue, record.kind, record.id), body)

    async def revoke(self, worker: str) -> None:
        await self.edge.act_on_worker(worker, "revoke")

    async def rotate(self, worker: str) -> None:
        await self.edge.act_on_worker(worker, "rotate")

    async def publish_bundle(self, bundle: MadeBundle) -> None:
        await publish_bundle(self.edge.broker, bundle)

    async def remove_piece(self, piece: str) -> None:
        await BundleStore(self.edge.broker).remove_piece(piece)

    def answer_execution(self, status: int, body: Any) -> None:
        self.gate.status, self.gate.body = status, b"" if body is None else orjson.dumps(body)
        self.gate.answer_headers = {} if body is None else {"Content-Type": "application/json"}

    def execution_calls(self) -> list[tuple[str, str, str]]:
        return [(call.method, call.target.partition("/execution/")[2], call.request_id) for call in self.gate.calls]

    async def log(self, job: Job) -> bytes:
        assert job.task is not None
        subject, stored = log_subject(job.task.ti_id, job.task.try_number, job.id), b""
        state = (await self.edge.broker.api(f"STREAM.INFO.{LOGS}", {"subjects_filter": subject}))["state"]
        sequence = 1
        for _ in range(state.get("subjects", {}).get(subject, 0)):
            found = await self.edge.broker.api(f"STREAM.MSG.GET.{LOGS}", {"next_by_subj": subject, "seq": sequence})
            stored += base64.b64decode(found["message"]["data"])
            sequence = found["message"]["seq"] + 1
        return stored


@asynccontextmanager
async def fake_relay(queue: str) -> AsyncIterator[RelayBackend]:
    """The fake one."""
    relay = FakeRelay(centre=CENTRE, queues=(queue,))
    await relay.start()
    try:
        yield Fake(relay, queue)
    finally:
        await relay.stop()


@asynccontextmanager
async def running_relay(folder: Path) -> AsyncIterator[tuple[Edge, FakeGate]]:
    """A real one with its own NATS; only the keeper's gate is a fake."""
    secret = folder / "gate.secret"
    secret.write_bytes(KEY)
    async with running_gate() as gate:
        gate.body = CENTRE.model_dump_json().encode()
        async with running_edge(folder, gate_urls=(gate.url,), gate_key_file=secret, bundle_cache_bytes=0) as edge:
            yield edge, gate


@asynccontextmanager
async def real_relay(edge: Edge, gate: FakeGate, queue: str) -> AsyncIterator[RelayBackend]:
    """The real one, with a queue of this test's own."""
    await ensure_consumer(edge.broker, None, queue, JobKind.TASK)
    gate.calls.clear()
    yield Real(edge, gate, queue)


@dataclass
class Agent:
    """A worker reduced to its calls."""

    backend: RelayBackend
    session: aiohttp.ClientSession
    secret: str
    name: str = ""
    instance: str = "machine"
    incarnation: int = 1
    seq: int = 0

    async def call(
        self,
        method: str,
        path: str,
        *,
        secret: str | None = None,
        json: object = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One call; the path is sent as it is."""
        sent = {"Authorization": f"Bearer {self.secret if secret is None else secret}", **(headers or {})}
        if json is not None:
            body = orjson.dumps(json)
            sent.setdefault("Content-Type", "application/json")
        data = None if body is None else io.BytesIO(body)
        url = URL(self.backend.url + path, encoded=True)
        async with self.session.request(method, url, data=data, headers=sent) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def enroll(self, token: str, **more: Any) -> Reply:
        """Enrol with this agent's secret."""
        body = {"protocol": PROTOCOL, "secret_hash": hash_secret(self.secret), "hostname": "h", **more}
        return await self.call("POST", routes.ENROLL, secret=token, json=body)

    def report(self, **changes: Any) -> dict[str, Any]:
        """The body of the next poll."""
        self.seq += 1
        return {
            "protocol": PROTOCOL,
            "incarnation": self.incarnation,
            "seq": self.seq,
            "instance": self.instance,
            "host": "host",
            "slots": 4,
            "free": 1,
            "poll_timeout_s": 0,
            "settings_version": 1,
            "versions": {"agent": "0", "python": "3.11", "platform": "test"},
            **changes,
        }

    async def poll(self, **changes: Any) -> Reply:
        """One poll, answered at once unless `poll_timeout_s` says otherwise."""
        return await self.call("POST", routes.POLL, json=self.report(**changes))

    async def grants(self, wanted: int = 1, **changes: Any) -> list[dict[str, Any]]:
        """Poll until this many jobs are granted."""
        found: list[dict[str, Any]] = []
        while len(found) < wanted:
            reply = await self.poll(**{"free": wanted - len(found), "poll_timeout_s": 5, **changes})
            assert reply.status in {200, 204}, reply.body
            found += reply.json.get("grants", []) if reply.status == 200 else []
        return found

    async def start(self, grant: Mapping[str, Any], *, job: str | None = None) -> Reply:
        body = {"receipt": grant["receipt"], "incarnation": self.incarnation}
        return await self.call("POST", routes.JOB_START.format(job=job or grant["job"]["id"]), json=body)

    async def register_secret(self, following: str, rotation: int = 1, **more: Any) -> Reply:
        """Register the next secret; it is not used before `secret` is changed."""
        body = {"secret_hash": hash_secret(following), "rotation": rotation}
        return await self.call("POST", routes.WORKER_SECRET, json=body, **more)

    async def finish(self, job: str, **body: Any) -> Reply:
        content = {"incarnation": self.incarnation, **body}
        return await self.call("POST", routes.JOB_FINISH.format(job=job), json=content)

    async def release(self, grant: Mapping[str, Any], **body: Any) -> Reply:
        content = {"receipt": grant["receipt"], "reason": "does not fit", **body}
        return await self.call("POST", routes.JOB_RELEASE.format(job=grant["job"]["id"]), json=content)

    async def put_log(self, job: str, offset: object, data: bytes, **headers: str) -> Reply:
        sent = {"Content-Type": "application/octet-stream", **{n.replace("_", "-"): v for n, v in headers.items()}}
        return await self.call("PUT", f"{routes.JOB_LOG.format(job=job)}?offset={offset}", body=data, headers=sent)

    async def manifest(self, job: Job, path: str) -> Reply:
        return await self.call("GET", f"{path}?job={job.id}")

    async def pieces(self, job: Job, path: str, *pieces: object, **more: Any) -> Reply:
        return await self.call("POST", path, json={"job": job.id, "pieces": pieces, **more})

    async def execution(self, method: str, job: str, path: str, **more: Any) -> Reply:
        return await self.call(method, routes.JOB_EXECUTION.format(job=job, path=path), **more)


@dataclass
class Site:
    """A relay and what a case may do with it."""

    backend: RelayBackend
    session: aiohttp.ClientSession

    def stranger(self) -> Agent:
        """An agent that has not enrolled."""
        return Agent(self.backend, self.session, new_secret(SecretKind.WORKER), instance=uuid.uuid4().hex)

    async def worker(self) -> Agent:
        """An enrolled one."""
        agent = self.stranger()
        reply = await agent.enroll(await self.backend.enroll_token())
        assert reply.status == 200, reply.body
        agent.name = reply.json["worker"]
        return agent


@asynccontextmanager
async def site_of(backend: RelayBackend) -> AsyncIterator[Site]:
    """With a client that trusts the relay."""
    connector = aiohttp.TCPConnector(ssl=backend.tls)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
        yield Site(backend, session)
