"""An executor between a real scheduler's steps and a real nats-server, and a worker's doings without a worker."""

import asyncio
import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import NO_MESSAGE, JetStreamError
from edge_broker.permissions import ADMIN, EXECUTOR
from edge_broker.records import RecordStore
from edge_broker.subjects import JOBS, job_subject
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.life.events import AnswerWrite, Event, Finish, Release, Start
from edge_schemas.life.model import JobRecord, WriteAnswer
from support.airflow import airflow_home
from support.nats.server import PASSWORDS, connected, eventually, running_server

Executors = Callable[..., Any]


@pytest.fixture(scope="session", autouse=True)
def _tables() -> None:
    airflow_home.create_tables()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with running_server(tmp_path / "nats") as running:
        yield running


@pytest.fixture
def executors(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Executors]:
    """Makes started executors, each as a scheduler of its own would; all are ended."""
    from edge_bridge.executor.relay_executor import RelayExecutor

    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "a-secret-for-tests-that-is-long-enough-for-hs512-" * 2)
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__NATS_URLS", server.url)
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__EXECUTOR_PASSWORD", PASSWORDS[EXECUTOR])
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__RECONCILE_INTERVAL", "3600")
    # Without a relay no slot is free, and most tests are not about the order of messages.
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__PUBLISH_AHEAD", "1000")
    made: list[RelayExecutor] = []

    def make(name: Any = None) -> RelayExecutor:
        executor = RelayExecutor()
        executor.name = name
        executor.start()
        made.append(executor)
        return executor

    yield make
    for executor in made:
        executor.terminate()


@dataclass
class Edge:
    """What a worker, a relay and an operator would do to the jobs, done through the records."""

    broker: Broker
    store: RecordStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = RecordStore(self.broker)

    async def record(self, job: str) -> JobRecord | None:
        return await self.store.get(job)

    async def appears(self, job: str) -> JobRecord:
        """The record of a job that is being published, with its message stored."""

        async def published() -> JobRecord | bool:
            record = await self.store.get(job)
            return record if record is not None and await self.message(record) else False

        found = await eventually(published, what=f"record and message of {job}")
        assert isinstance(found, JobRecord)
        return found

    async def message(self, record: JobRecord) -> dict[str, Any] | None:
        subject = job_subject(record.team, record.queue, record.kind, record.id)
        try:
            answer = await self.broker.api(f"STREAM.MSG.GET.{JOBS}", {"last_by_subj": subject})
        except JetStreamError as error:
            if error.code != NO_MESSAGE:
                raise
            return None
        message: dict[str, Any] = answer["message"]
        return message

    async def drop_message(self, record: JobRecord) -> None:
        subject = job_subject(record.team, record.queue, record.kind, record.id)
        await self.broker.api(f"STREAM.PURGE.{JOBS}", {"filter": subject})

    async def do(self, job: str, event: Event) -> JobRecord:
        return (await self.store.change(job, event))[1]

    async def start(self, job: str) -> JobRecord:
        """A worker starts the job; the message is acknowledged."""
        record = await self.do(job, Start("w", 1, datetime.now(UTC)))
        await self.drop_message(record)
        return record

    async def accept(self, job: str, state: str) -> None:
        """Airflow has accepted the task's final state."""
        await self.do(job, AnswerWrite("w", WriteAnswer(request_id="12345678", status=204, body=""), state))

    async def finish(self, job: str, reason: str | None = None) -> JobRecord:
        return await self.do(job, Finish("w", 0, reason, datetime.now(UTC)))

    async def park(self, job: str) -> None:
        for number in range(5):
            reason, grant = f"no such runtime {number}", f"grant-{number}"
            await self.do(job, Release("w", reason, counted=True, at=datetime.now(UTC), grant=grant))


@pytest.fixture
async def edge(server: NatsServer) -> AsyncIterator[Edge]:
    async with connected(server, ADMIN) as broker:
        yield Edge(broker)


@dataclass
class Centre:
    """A scheduler with one relay executor."""

    executor: Any
    scheduler: airflow_home.Scheduler

    def dispatch(self, dag: Any) -> dict[str, str]:
        """Queue what is scheduled and hand it out; returns the job of each task."""
        while self.scheduler.queue():
            pass
        self.scheduler.beat()
        return {task: row.external_executor_id for task, row in airflow_home.task_rows(dag.dag_id).items()}

    async def beats_until(self, check: Callable[[], Any], what: str = "") -> None:
        """Let the scheduler loop until something holds."""

        def step() -> bool:
            started = time.monotonic()
            self.scheduler.beat()
            assert time.monotonic() - started < 2, "the executor has blocked the scheduler"
            return bool(check())

        await eventually(step, what=what)

    def compare(self) -> None:
        """One round of the reconciler, for everything, however young."""
        background = self.executor._background
        background.reconciler._settle_s = -1
        assert self.executor._portal.call(lambda: _compare(background), 10)


async def _compare(background: Any) -> bool:
    reconciler = background.reconciler
    for step in (reconciler.compare_tasks, reconciler.compare_auxiliary_jobs, reconciler.adopt_auxiliary_jobs):
        await step(*background._connection)
    return True


@pytest.fixture
def centres(executors: Executors) -> Callable[..., Centre]:
    """Makes schedulers, each with an executor of its own; it may be given the name that Airflow has for it."""

    def make(name: Any = None) -> Centre:
        executor = executors(name)
        return Centre(executor, airflow_home.Scheduler(executor))

    return make


@pytest.fixture
def killed(centres: Callable[[], Centre]) -> Callable[[Any], dict[str, str]]:
    """Has a scheduler in a process of its own hand out a DAG run's tasks and kills it; returns the job of each task."""

    def hand_out_and_die(dag: Any) -> dict[str, str]:
        out, into = os.pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns of threads that a fork leaves behind; the child needs none of them.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            try:
                _live(centres, dag, into)
            except BaseException:  # noqa: BLE001  # a fork must never return into pytest
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(1)
        os.close(into)
        try:
            with os.fdopen(out) as told:
                jobs: dict[str, str] = json.loads(told.readline())
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        _fall_silent(jobs.pop(""))
        return jobs

    return hand_out_and_die


def _live(centres: Callable[[], Centre], dag: Any, into: int) -> None:
    from airflow import settings

    assert settings.engine is not None
    settings.engine.dispose(close=False)  # its connections are the parent's
    centre = centres()
    jobs = centre.dispatch(dag)
    # In the order of the loop: its turn comes after the hand-out, which a look from this thread might be ahead of.
    assert centre.executor._portal.call(lambda: centre.executor._background.flush(30), 31) == 0
    os.write(into, json.dumps(jobs | {"": str(centre.scheduler.job.id)}).encode() + b"\n")
    signal.pause()


def _fall_silent(scheduler_job: str) -> None:
    """Its last heartbeat is an hour ago: what Airflow sees of a scheduler that was killed."""
    from airflow.jobs.job import Job
    from airflow.utils.session import create_session

    with create_session(scoped=False) as session:
        job = session.get(Job, int(scheduler_job))
        assert job is not None
        job.latest_heartbeat = datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture
async def slow_nats(server: NatsServer) -> AsyncIterator[str]:
    """The server again, behind a link on which each byte takes a third of a second, both ways."""
    address = urlsplit(server.url).hostname, urlsplit(server.url).port
    pumps: set[asyncio.Task[None]] = set()
    ends: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            asyncio.get_running_loop().call_later(0.3, writer.write, data)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*address)
        ends.extend((writer, back))
        pumps.update(asyncio.create_task(pump(*way)) for way in ((reader, back), (there, writer)))

    link = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield f"nats://127.0.0.1:{link.sockets[0].getsockname()[1]}"
    link.close()
    for task in pumps:
        task.cancel()
    await asyncio.gather(*pumps, return_exceptions=True)
    for end in ends:
        end.close()
    await asyncio.gather(*(end.wait_closed() for end in ends), return_exceptions=True)
