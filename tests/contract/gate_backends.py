"""The fake gate, and a real keeper's gate with NATS and Airflow behind it, with the same handles for a test."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import orjson
from yarl import URL

from edge_broker.permissions import EXECUTOR
from edge_broker.records import RecordStore
from edge_schemas.gate.centre import CentreFacts
from edge_schemas.life.events import Start
from support.airflow import keeper
from support.airflow.keeper import WORKER, FakeRelay, keeper_settings, publish, running_keeper
from support.airflow.real_airflow import DAG_ID, RUN_ID, RealAirflow, TaskIds, add_task
from support.nats.server import connected, running_server
from support.relay import fake_gate
from support.relay.fake_gate import FakeGate, running_gate


class GateBackend(Protocol):
    """A gate as a relay uses one, with a job whose user code may begin.

    Attributes:
        ids: Of that job.
        relay: Calls the gate with the right secret.
    """

    ids: TaskIds
    relay: FakeRelay

    def airflow_answers(self, status: int, body: Any) -> None:
        """Airflow's answer to the next call, which the fake must be told and the real Airflow gives by itself."""

    def airflow_answers_head(self, content_range: str) -> None:
        """The same for a `HEAD` of an XCom."""

    def centre(self, facts: CentreFacts) -> None:
        """The same for the facts of the centre."""


@dataclass
class Fake:
    """See `GateBackend`."""

    gate: FakeGate
    ids: TaskIds
    relay: FakeRelay

    def airflow_answers(self, status: int, body: Any) -> None:
        self.gate.status, self.gate.body = status, b"" if body is None else orjson.dumps(body)
        self.gate.answer_headers = {"Content-Type": "application/json"}

    def airflow_answers_head(self, content_range: str) -> None:
        self.gate.status = 200
        self.gate.answer_headers = {"Content-Type": "application/json", "Content-Range": content_range}

    def centre(self, facts: CentreFacts) -> None:
        self.gate.body = facts.model_dump_json(exclude_none=True).encode()
        self.gate.answer_headers = {"Content-Type": "application/json"}


@dataclass
class Real:
    """See `GateBackend`."""

    ids: TaskIds
    relay: FakeRelay

    def airflow_answers(self, status: int, body: Any) -> None:
        """Airflow does."""

    def airflow_answers_head(self, content_range: str) -> None:
        """Airflow does."""

    def centre(self, facts: CentreFacts) -> None:
        """Airflow's versions are what they are."""


@asynccontextmanager
async def fake_gate_backend() -> AsyncIterator[GateBackend]:
    """The fake one."""
    async with running_gate() as gate, aiohttp.ClientSession() as session:
        port = URL(gate.url).port
        assert port is not None
        ids = TaskIds(ti_id=str(uuid.uuid4()), job=str(uuid.uuid4()), task_id="t")
        yield Fake(gate, ids, FakeRelay(session, key=fake_gate.KEY, port=port))


@dataclass
class Keeper:
    """A running keeper."""

    port: int
    records: RecordStore


@asynccontextmanager
async def keeper_with_airflow(airflow: RealAirflow, folder: Path) -> AsyncIterator[Keeper]:
    """A keeper with a NATS of its own."""
    async with AsyncExitStack() as stack:
        nats = await stack.enter_async_context(running_server(folder / "nats"))
        broker = await stack.enter_async_context(connected(nats, EXECUTOR))
        running = await stack.enter_async_context(running_keeper(keeper_settings(nats, airflow)))
        yield Keeper(running.port, RecordStore(broker))


@asynccontextmanager
async def real_gate_backend(running: Keeper) -> AsyncIterator[GateBackend]:
    """A real one, with a started job whose task Airflow has queued."""
    ids = await asyncio.to_thread(add_task)
    await publish(running.records, ids)
    await running.records.change(ids.job, Start(WORKER, 1, datetime.now(UTC)))
    async with aiohttp.ClientSession() as session:
        yield Real(ids, FakeRelay(session, key=keeper.KEY, port=running.port))


def xcom_path(ids: TaskIds) -> str:
    """Of the task's own return value."""
    return f"xcoms/{DAG_ID}/{RUN_ID}/{ids.task_id}/return_value"
