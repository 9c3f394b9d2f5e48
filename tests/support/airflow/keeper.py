"""A keeper for tests, and a relay that calls it correctly or with a fault."""

import asyncio
import io
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import orjson
from aiohttp import web
from yarl import URL

from edge_bridge.keeper.service import Keeper, running_parts
from edge_bridge.keeper.settings import KeeperSettings
from edge_bridge.keeper.task_heartbeats import HeartbeatSettings
from edge_bridge.keeper.tokens import mint_from_config
from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.permissions import KEEPER
from edge_broker.records import RecordStore
from edge_broker.subjects import RELAY_BEATS, WORKERS_BUCKET
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.gate.auth import SIGNATURE_HEADER, GateCall, check_answer, sign_call
from edge_schemas.life.agents import arrive
from edge_schemas.life.events import Start
from edge_schemas.life.model import JobRecord, JobState, new_record
from edge_schemas.wire.jobs import AuxiliaryJob, AuxiliaryKind, AuxiliaryWork, Job, TaskIdentity, TaskWork
from edge_schemas.wire.offline import DEFAULT_TOLERANCE_S, OfflinePolicy
from edge_schemas.wire.routes import GATE_EXECUTION, ORIGIN_HEADER, REQUEST_ID_HEADER, WORKER_HEADER
from edge_schemas.wire.worker_entry import AgentSeen, RelayBeat, WorkerEntry
from edge_schemas.wire.worker_report import JobPhase, JobReport, WorkerHealth, WorkerVersions
from support.airflow.real_airflow import DAG_ID, RUN_ID, RealAirflow, TaskIds
from support.nats.server import broker_settings, eventually

KEY = b"a-gate-secret-of-the-tests-" + b"x" * 32
WORKER = "plant-1"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""Answers in an api-server's place."""
RUN_BODY = {"state": "running", "hostname": "host-1", "unixname": "root", "pid": 4711}


@dataclass(frozen=True, slots=True)
class GateReply:
    """The gate's answer, with its signature already checked."""

    status: int
    body: Any
    headers: dict[str, str]
    signed: bool

    @property
    def from_airflow(self) -> bool:
        """Not a problem of the gate's own."""
        return self.headers.get(ORIGIN_HEADER) == "execution-api"

    @property
    def code(self) -> str:
        """Of a problem."""
        assert self.headers["Content-Type"] == "application/problem+json"
        code: str = self.body["code"]
        return code


@dataclass
class FakeRelay:
    """Calls a gate as a relay does, and can do it wrong."""

    session: aiohttp.ClientSession
    key: bytes = KEY
    worker: str = WORKER
    skew_s: float = 0
    send_worker: str | None = None
    port: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    async def call(
        self, method: str, job: str, path: str, body: object = None, *, request_id: str | None = None
    ) -> GateReply:
        """One call; the request id is new unless it is given."""
        target = GATE_EXECUTION.format(job=job, path=path)
        data = b"" if body is None else orjson.dumps(body)
        call = GateCall(method, target, self.worker, request_id or uuid.uuid4().hex, data)
        signature, nonce = sign_call(self.key, call, now=time.time() + self.skew_s)
        headers = {
            SIGNATURE_HEADER: signature,
            WORKER_HEADER: self.send_worker or self.worker,
            REQUEST_ID_HEADER: call.request_id,
            "Content-Type": "application/json",
            **self.headers,
        }
        url = URL(f"http://127.0.0.1:{self.port}{target}", encoded=True)
        async with self.session.request(method, url, data=io.BytesIO(data) if data else None, headers=headers) as reply:
            raw = await reply.read()
            signed = check_answer(self.key, nonce, reply.status, raw, reply.headers.get(SIGNATURE_HEADER, ""))
            is_json = raw and reply.content_type.endswith("json")
            return GateReply(
                reply.status, orjson.loads(raw) if is_json else raw.decode() or None, dict(reply.headers), signed
            )

    def but(self, **changes: Any) -> "FakeRelay":
        """A copy of this relay with some attributes changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Centre:
    """A running keeper and what is around it."""

    keeper: Keeper
    relay: FakeRelay
    records: RecordStore
    broker: Broker
    server: NatsServer

    async def waiting(self, ids: TaskIds) -> JobRecord:
        """Publish the record of a task instance's dispatch."""
        return await publish(self.records, ids)

    async def started(self, ids: TaskIds, worker: str = WORKER) -> JobRecord:
        """As `waiting`, and a worker has become the holder."""
        await self.waiting(ids)
        _, after = await self.records.change(ids.job, Start(worker, 1, datetime.now(UTC)))
        return after

    async def auxiliary(self, kind: AuxiliaryKind, auxiliary_id: str | None = None) -> JobRecord:
        """A callback or connection test that the worker has started."""
        auxiliary = AuxiliaryJob(kind=kind, id=auxiliary_id or str(uuid.uuid4()))
        work = AuxiliaryWork(auxiliary=auxiliary, workload={}, core_executor="")
        job = Job(id=auxiliary.id, queue="auxiliary_jobs", work=work, published_at=datetime.now(UTC))
        await self.records.create(new_record(job))
        _, after = await self.records.change(job.id, Start(WORKER, 1, datetime.now(UTC)))
        return after

    async def running(self, ids: TaskIds) -> JobRecord:
        """As `started`, and user code runs, for Airflow too."""
        await self.started(ids)
        reply = await self.relay.call("PATCH", ids.job, f"task-instances/{ids.ti_id}/run", run_body())
        assert reply.status == 200, reply
        return await self.record(ids.job)

    async def record(self, job: str) -> JobRecord:
        """As it is now."""
        record = await self.records.get(job)
        assert record is not None
        return record

    async def reaches(self, job: str, state: JobState, *, within_s: float = 5) -> JobRecord:
        """The record once it is in this state."""
        async with asyncio.timeout(within_s):
            while True:
                record = await self.record(job)
                if record.state is state:
                    return record
                await asyncio.sleep(0.02)


async def publish(records: RecordStore, ids: TaskIds, *, tolerance_s: float = DEFAULT_TOLERANCE_S) -> JobRecord:
    """Publish the record of a task instance's dispatch."""
    task = TaskIdentity(ti_id=ids.ti_id, dag_id=DAG_ID, run_id=RUN_ID, task_id=ids.task_id, try_number=1)
    work = TaskWork(task=task, workload={}, core_executor="")
    offline = OfflinePolicy(tolerance_s=tolerance_s)
    record = new_record(Job(id=ids.job, queue="edge", work=work, offline=offline, published_at=datetime.now(UTC)))
    await records.create(record)
    return record


async def poll(
    relay: Broker, *jobs: str, worker: str = WORKER, incarnation: int = 1, instance: str = "machine-1", ago_s: float = 0
) -> None:
    """Write down a worker's poll as a relay does."""
    bucket = Bucket(relay, WORKERS_BUCKET)
    stored = await bucket.get(worker)
    known = None if stored.value is None else WorkerEntry.model_validate_json(stored.value)
    agent = AgentSeen(
        instance=instance,
        incarnation=incarnation,
        seq=1 if known is None else known.agent.seq + 1,
        arrival=uuid.uuid4().hex,
        host="machine",
        address="127.0.0.1",
        last_poll_at=datetime.now(UTC) - timedelta(seconds=ago_s),
    )
    new = WorkerEntry(
        worker=worker,
        site="somewhere",
        agent=agent,
        relay="relay-1",
        poll_timeout_s=50,
        slots=4,
        free=4,
        draining=False,
        jobs=tuple(JobReport(id=job, phase=JobPhase.RUNNING) for job in jobs),
        versions=WorkerVersions(agent="1", python="3", platform="linux"),
        health=WorkerHealth(),
    )
    entry = arrive(known, new, superseded_by=None)
    await bucket.put(worker, entry.model_dump_json(exclude_none=True).encode(), revision=stored.revision)


@asynccontextmanager
async def beating(
    relay: Broker, *, name: str = "relay-1", serving_for_s: float = 3600, ahead_s: float = 0
) -> AsyncIterator[None]:
    """A relay replica that has served for this long. It sends its beat more often than necessary: tests can't wait."""

    def clock() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=ahead_s)

    since = clock() - timedelta(seconds=serving_for_s)

    async def go_on() -> None:
        while True:
            beat = RelayBeat(relay=name, serving_since=since, at=clock())
            await relay.publish(RELAY_BEATS, beat.model_dump_json().encode())
            await asyncio.sleep(0.2)

    task = asyncio.create_task(go_on(), name="relay-beats")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def run_body(**changes: Any) -> dict[str, Any]:
    """The body of `/run`."""
    return {**RUN_BODY, "start_date": datetime.now(UTC).isoformat(), **changes}


def keeper_settings(
    server: NatsServer, airflow: RealAirflow, *, heartbeat_timeout: timedelta = timedelta(seconds=300)
) -> KeeperSettings:
    """Settings of a keeper on a free port."""
    return KeeperSettings(
        broker=broker_settings(server, KEEPER),
        gate_host="127.0.0.1",
        gate_port=0,
        gate_secret=KEY,
        execution_api_url=airflow.execution_url,
        heartbeats=HeartbeatSettings(heartbeat_timeout),
    )


@asynccontextmanager
async def running_keeper(settings: KeeperSettings) -> AsyncIterator[Keeper]:
    """A keeper in this process, ready; stopped in order at the end."""
    stop = asyncio.Event()
    async with running_parts(settings, mint_from_config()) as keeper, asyncio.TaskGroup() as group:
        running = group.create_task(keeper.run(stop))
        try:
            await eventually(lambda: running.done() or keeper.health()["ok"], what=f"keeper: {keeper.health()}")
            yield keeper
        finally:
            stop.set()
