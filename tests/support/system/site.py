"""A centre and an edge of real parts, with links between them that can be cut: all but Airflow itself is real.

NATS and the agents, task hosts and tasks are processes; relay and keeper run in the test's loop, as they do in theirs.

    worker ── HttpLink ── relay ── Link ── NATS
                            └───── keeper ── FakeAirflow
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from edge_bridge.keeper import service
from edge_bridge.keeper.settings import KeeperSettings
from edge_bridge.keeper.task_heartbeats import HeartbeatSettings
from edge_bridge.keeper.tokens import TokenMint
from edge_broker import layout
from edge_broker.connection.broker import Broker
from edge_broker.permissions import ADMIN, KEEPER, RELAY
from edge_broker.subjects import job_subject
from edge_relay.serve import Serving, serving
from edge_relay.settings import Settings as RelaySettings
from edge_relay.standalone import tls
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.life.model import JobRecord, JobState, new_record
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import Job, JobKind, TaskWork
from edge_schemas.wire.offline import OfflinePolicy
from edge_schemas.wire.polls import GRANT_WAIT_S
from edge_schemas.wire.workers import Enrollment, SecretKind, new_secret
from edge_worker.settings import Settings as AgentSettings
from edge_worker.state.state import Identity, StateDir
from edge_worker.task_host.job_files import TASK_LOG
from support.airflow.fake_airflow import (
    DAG_ID,
    FakeAirflow,
    FakeDispatches,
    FakeTask,
    PlainSigner,
    running_fake_airflow,
)
from support.airflow.keeper import KEY
from support.nats.server import PASSWORDS, broker_settings, connected, eventually, free_port, running_server
from support.network.http_link import HttpLink
from support.network.link import Link
from support.relay.edge import Edge, create_access_token
from support.system.inspection import uploaded_log
from support.worker.agent_process import EDGE_WORKER, agent_environment

DAGS = Path(__file__).parents[2] / "faults" / "cut_dags"
LONG = OfflinePolicy()


@dataclass(frozen=True)
class Line:
    """What a task wrote into its ledger."""

    job: str
    pid: int
    what: str
    at: float


@dataclass
class Site:
    """The centre, the links and what a test asks of them.

    Attributes:
        link: Between the workers and the relay.
        nats_link: Between relay and NATS.
        root: For ledgers and flags.
        grant_wait_s: After which a grant whose answer was lost comes again.
    """

    edge: Edge
    airflow: FakeAirflow
    server: NatsServer
    link: HttpLink
    nats_link: Link
    root: Path
    grant_wait_s: float
    relay_settings: RelaySettings
    keeper_settings: KeeperSettings
    jobs: dict[str, FakeTask] = field(default_factory=dict)

    _relay: AsyncExitStack = field(default_factory=AsyncExitStack)
    _keeper: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def broker(self) -> Broker:
        """With an operator's rights, straight to NATS."""
        return self.edge.broker

    async def start_relay(self) -> None:
        """A replica, at the address that the last one had."""
        self.edge.relays[:] = [await self._relay.enter_async_context(serving(self.relay_settings))]

        async def is_ready() -> bool:
            return (await self.edge.call("GET", routes.READYZ)).status == 200

        await eventually(is_ready, timeout_s=30, what="a relay that is ready")

    @asynccontextmanager
    async def other_relay(self) -> AsyncIterator[Serving]:
        """A second replica, whose way to NATS is never cut; no machine reaches it."""
        url = {"name": "relay-1", "port": 0, "operators_port": 0, "nats_urls": (self.server.url,)}
        async with serving(self.relay_settings.model_copy(update=url)) as relay:
            yield relay

    async def stop_relay(self) -> None:
        """In order: parked polls are answered."""
        await self._relay.aclose()

    async def start_keeper(self) -> None:
        """A keeper, at the address that the last one had."""
        await self._keeper.enter_async_context(_keeper(self.keeper_settings, self.airflow))

    async def stop_keeper(self) -> None:
        """In order: tasks' calls are held by the workers meanwhile."""
        await self._keeper.aclose()

    def ledger(self, job: str) -> list[Line]:
        """What the user code of a job has written down."""
        path = self.root / f"{job}.ledger"
        return [Line(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []

    def flag(self, job: str) -> Path:
        """The file that an `until_told` task waits for."""
        return self.root / f"{job}.flag"

    def prepare(
        self,
        worker: "Machine",
        task_id: str = "step",
        *,
        offline: OfflinePolicy = LONG,
        workload: dict[str, Any] | None = None,
        **conf: Any,
    ) -> Job:
        """A job for a worker's queue, known to Airflow and not published yet; `conf` is for the task."""
        task = self.airflow.add(task_id, conf)
        conf |= {
            "job": task.dispatch,
            "ledger": str(self.root / f"{task.dispatch}.ledger"),
            "flag": str(self.flag(task.dispatch)),
        }
        self.jobs[task.dispatch] = task
        work = TaskWork(task=task.identity, workload=workload or _workload(task), core_executor="LocalExecutor")
        return Job(id=task.dispatch, queue=worker.queue, work=work, offline=offline, published_at=datetime.now(UTC))

    async def publish(self, job: Job) -> Job:
        """Record, then message, as the executor does."""
        await self.edge.records.create(new_record(job))
        await self.broker.store(job_subject(job.team, job.queue, job.kind, job.id), job.model_dump_json().encode())
        return job

    async def record(self, job: Job) -> JobRecord:
        """As it is now."""
        record = await self.edge.records.get(job.id)
        assert record is not None
        return record

    async def ended(self, job: Job, *, within_s: float = 90) -> JobRecord:
        """The record of a job once it has ended."""
        deadline = time.monotonic() + within_s
        while (record := await self.record(job)).state is not JobState.ENDED:
            assert time.monotonic() < deadline, f"has not ended within {within_s:g} s: {record!r}"
            await asyncio.sleep(0.05)
        return record

    async def began(self, job: Job, *, within_s: float = 90) -> None:
        """Its user code runs."""
        await eventually(lambda: bool(self.ledger(job.id)), timeout_s=within_s, what=f"user code of {job.id}")

    async def log(self, job: Job) -> bytes:
        """What the centre has of its log."""
        return await uploaded_log(self.broker, job.id)


@dataclass
class Machine:
    """An edge machine: a state folder, an agent that can be killed and started again."""

    site: Site
    identity: Identity
    settings: AgentSettings
    command: Sequence[str] = (*EDGE_WORKER, "run")
    _process: asyncio.subprocess.Process | None = None

    @property
    def queue(self) -> str:
        """Its own; no other machine serves it, but one with a copy of its credential."""
        return self.identity.enrollment.settings.queues[0]

    @property
    def log(self) -> Path:
        """Of all its agents."""
        return self.settings.state_dir.with_suffix(".log")

    async def start(self, **environment: str) -> None:
        """Start the agent."""
        given = {
            "EDGE_WORKER_BUNDLES": json.dumps({"cut": str(DAGS)}),
            **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
            **environment,
        }
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                env=agent_environment(self.settings, **given),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def ended(self) -> int:
        """The exit status of the agent, once it has left by itself."""
        assert self._process is not None
        return await self._process.wait()

    async def kill_agent(self) -> None:
        """`kill -9` of the agent alone."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def kill_all(self) -> None:
        """`kill -9` of all the worker's processes: agent, task host, supervisors, user code."""
        while pids := [*self._pids()]:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.02)
        if self._process is not None:
            await self._process.wait()

    def local_log(self, job: str) -> bytes:
        """The log as it is on the machine's disk; empty while its folder is being moved."""
        with contextlib.suppress(FileNotFoundError):
            for found in self.settings.state_dir.glob(f"*/{job}*/{TASK_LOG}"):
                return found.read_bytes()
        return b""

    def forget(self, job: str) -> None:
        """As if its folder had never reached the disk."""
        shutil.rmtree(self.settings.state_dir / "jobs" / job)

    def events(self) -> list[dict[str, Any]]:
        """What its agents have logged."""
        # The last line may be incomplete.
        lines = self.log.read_text().rpartition("\n")[0].splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def started_at(self) -> datetime:
        """When its last agent began to work."""
        started = [event for event in self.events() if event["event"] == "worker_started"]
        return datetime.fromisoformat(started[-1]["timestamp"])

    def _pids(self) -> Iterator[int]:
        """All have the state folder in the environment that they were started with, or inherited by a fork."""
        mark = os.fsencode(self.settings.state_dir)
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                environment = (path / "environ").read_bytes()
                is_zombie = b") Z " in (path / "stat").read_bytes()
                if not is_zombie and any(
                    value == mark or value.startswith(mark + b"/")
                    for _, _, value in (entry.partition(b"=") for entry in environment.split(b"\0"))
                ):
                    yield int(path.name)


@contextmanager
def machine(
    site: Site, identity: Identity, state_dir: Path, *, slots: int = 4, poll_timeout_s: float = 50
) -> Iterator[Machine]:
    """An enrolled machine whose agent is not started; all its processes are killed at the end of the block."""
    state = StateDir(state_dir)
    state.prepare()
    if state.identity() is None:
        state.complete_enrollment(identity)
    # A Unix socket's name must be short, and pytest's folders are not.
    runtime_dir = Path(tempfile.mkdtemp(prefix="ew-"))
    settings = AgentSettings(
        state_dir=state_dir,
        runtime_dir=runtime_dir,
        slots=slots,
        grace_s=1,
        runtime_python=Path(sys.executable),
    )
    made = Machine(site, identity, settings)
    try:
        yield made
    finally:
        for pid in made._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(runtime_dir, ignore_errors=True)


async def enrolled(site: Site, *, at: str = "plant") -> Identity:
    """A new worker's identity, with a queue of its own; it reaches the relay through the link."""
    secret = new_secret(SecretKind.WORKER)
    queue = f"q-{uuid.uuid4().hex[:8]}"
    reply = await site.edge.enroll(await site.edge.token(queue=queue, site=at), secret)
    assert reply.status == 200, reply.body
    with patch.object(layout, "GRANT_WAIT_S", site.grant_wait_s):
        await layout.ensure_consumer(site.broker, None, queue, JobKind.TASK)
    enrollment = Enrollment.model_validate(reply.json)
    return Identity(relay_url=site.link.url, secret=secret, enrollment=enrollment)


@asynccontextmanager
async def running_site(
    root: Path, *, grant_wait_s: float = GRANT_WAIT_S, heartbeat_timeout_s: float = 30
) -> AsyncIterator[Site]:
    """Everything but the machines.

    Args:
        root: For its files.
        grant_wait_s: After which a grant whose answer was lost comes again.
        heartbeat_timeout_s: After which Airflow would take a task for dead; the keeper beats thrice in that time.
    """
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(root / "nats"))
        nats_link = await stack.enter_async_context(Link.to(server.url))
        airflow = await stack.enter_async_context(running_fake_airflow())
        airflow.variables["read"] = "right"
        keeper = _keeper_settings(server, airflow, heartbeat_timeout_s)
        broker = await stack.enter_async_context(connected(server, ADMIN))
        settings, ca = _relay_settings(root, nats_link, keeper.gate_port)
        token = await create_access_token(broker, "tests")
        edge = await stack.enter_async_context(Edge(server, [], ca, broker, token))
        context = ssl.create_default_context(cafile=str(ca))
        link = await stack.enter_async_context(HttpLink.to(f"https://127.0.0.1:{settings.port}", tls=context))
        (root / "ledgers").mkdir()
        site = Site(edge, airflow, server, link, nats_link, root / "ledgers", grant_wait_s, settings, keeper)
        stack.push_async_callback(site.stop_keeper)
        await site.start_keeper()
        stack.push_async_callback(site.stop_relay)
        await site.start_relay()
        yield site


def _relay_settings(root: Path, nats_link: Link, gate_port: int) -> tuple[RelaySettings, Path]:
    files = tls.ensure(root / "tls", ["127.0.0.1", "localhost"], now=datetime.now(UTC))
    password, key = root / "relay.password", root / "gate.key"
    password.write_text(PASSWORDS[RELAY])
    key.write_bytes(KEY)
    settings = RelaySettings(
        name="relay-0",
        host="127.0.0.1",
        port=free_port(),
        operators_port=free_port(),
        tls_cert_file=files.cert,
        tls_key_file=files.key,
        nats_urls=(f"nats://127.0.0.1:{nats_link.port}",),
        nats_password_file=password,
        gate_urls=(f"http://127.0.0.1:{gate_port}",),
        gate_key_file=key,
    )
    return settings, files.ca_cert


def _keeper_settings(server: NatsServer, airflow: FakeAirflow, heartbeat_timeout_s: float) -> KeeperSettings:
    return KeeperSettings(
        broker=broker_settings(server, KEEPER),
        gate_host="127.0.0.1",
        gate_port=free_port(),
        gate_secret=KEY,
        execution_api_url=f"{airflow.url}/execution/",
        heartbeats=HeartbeatSettings(timeout=timedelta(seconds=heartbeat_timeout_s)),
    )


@asynccontextmanager
async def _keeper(settings: KeeperSettings, airflow: FakeAirflow) -> AsyncIterator[service.Keeper]:
    """The real keeper, except for the rows of Airflow's database and the key that signs tokens."""
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        stack.enter_context(patch.object(service, "Dispatches", partial(FakeDispatches, airflow)))
        keeper = await stack.enter_async_context(service.running_parts(settings, TokenMint(PlainSigner())))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        running = group.create_task(keeper.run(stop))
        stack.callback(stop.set)
        await eventually(lambda: running.done() or keeper.health()["ok"], what="a keeper that is well")
        yield keeper


def _workload(task: FakeTask) -> dict[str, Any]:
    identity = task.identity
    ti = {
        "id": identity.ti_id,
        "task_id": identity.task_id,
        "dag_id": identity.dag_id,
        "run_id": identity.run_id,
        "try_number": identity.try_number,
        "map_index": identity.map_index,
        "dag_version_id": str(uuid.uuid4()),
        "hostname": "",
        "queue": "edge",
        "pool_slots": 1,
        "priority_weight": 1,
        "context_carrier": {},
    }
    return {
        "ti": ti,
        "dag_rel_path": f"{DAG_ID}.py",
        "bundle_info": {"name": "cut", "version": None},
        "log_path": f"{task.dispatch}/attempt=1.log",
        "sentry_integration": "",
        "type": "ExecuteTask",
    }


def assert_happened_once(site: Site, job: Job) -> None:
    """User code of a `step` ran once, and Airflow took each of its writes once."""
    lines = site.ledger(job.id)
    assert [line.what for line in lines] == ["begin", "end"], lines
    task = site.jobs[job.id]
    xcoms = f"POST xcoms/{DAG_ID}/{task.identity.run_id}/{task.identity.task_id}"
    assert dict(task.taken) == {
        "PATCH task-instances/self/run": 1,
        "PUT task-instances/self/rtif": 1,
        f"{xcoms}/pushed": 1,
        f"{xcoms}/return_value": 1,
        "PATCH task-instances/self/state": 1,
    }, task.taken
    assert task.state == "success", task.state


async def log_is_complete(site: Site, worker: Machine, job: Job, *, lines: int | None = None) -> bool:
    """What the centre has is what the machine has: what the task has printed, each line once."""
    local = worker.local_log(job.id)
    printed = Counter(re.findall(rb"(?:line|tick) (\d[\d.]*) of", local))
    whole = lines is None or (len(printed) == lines and set(printed.values()) == {1})
    return whole and bool(local) and await site.log(job) == local
