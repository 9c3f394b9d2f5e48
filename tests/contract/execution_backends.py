"""The stand-in for the agent's gateway, and a real keeper's gate with Airflow, as a task sees the Execution API."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import aiohttp
import orjson

from contract.execution_reply import Reply
from contract.gate_backends import Keeper, real_gate_backend
from edge_schemas.life.events import Withdraw
from support.airflow.api.execution_api import ExecutionApi, serve_execution_api
from support.airflow.keeper import FakeRelay
from support.airflow.real_airflow import TaskIds


class ExecutionBackend(Protocol):
    """The Execution API of one started job.

    Attributes:
        ids: Of the job and its task.
    """

    ids: TaskIds

    async def call(self, method: str, path: str, body: object = None) -> Reply:
        """A call of the job's task."""

    async def set_variable(self, key: str, value: str) -> None:
        """A variable of Airflow."""

    async def set_connection(self, conn_id: str, host: str) -> None:
        """A connection of Airflow, of the type `http`."""

    async def stop(self) -> None:
        """Airflow wants the job no more."""


@dataclass
class Fake:
    """See `ExecutionBackend`."""

    api: ExecutionApi
    session: aiohttp.ClientSession
    ids: TaskIds

    async def call(self, method: str, path: str, body: object = None) -> Reply:
        headers = {"Content-Type": "application/json", "X-Request-Id": uuid.uuid4().hex}
        data = None if body is None else orjson.dumps(body)
        url = f"http://gateway/jobs/{self.ids.job}/execution/{path}"
        async with self.session.request(method, url, data=data, headers=headers) as reply:
            raw = await reply.read()
            return Reply(reply.status, reply.headers.get("Content-Type", ""), orjson.loads(raw) if raw else None)

    async def set_variable(self, key: str, value: str) -> None:
        self.api.variables[key] = value

    async def set_connection(self, conn_id: str, host: str) -> None:
        self.api.connections[conn_id] = {"conn_id": conn_id, "conn_type": "http", "host": host}

    async def stop(self) -> None:
        self.api.stop.add(self.ids.job)


@dataclass
class Real:
    """See `ExecutionBackend`."""

    keeper: Keeper
    relay: FakeRelay
    ids: TaskIds

    async def call(self, method: str, path: str, body: object = None) -> Reply:
        reply = await self.relay.call(method, self.ids.job, path, body)
        assert reply.from_airflow
        return Reply(reply.status, reply.headers.get("Content-Type", ""), reply.body)

    async def set_variable(self, key: str, value: str) -> None:
        def write() -> None:
            from airflow.models import Variable

            Variable.set(key, value)

        await asyncio.to_thread(write)

    async def set_connection(self, conn_id: str, host: str) -> None:
        def write() -> None:
            from airflow.models import Connection
            from airflow.utils.session import create_session

            with create_session(scoped=False) as session:
                session.add(Connection(conn_id=conn_id, conn_type="http", host=host))

        await asyncio.to_thread(write)

    async def stop(self) -> None:
        await self.keeper.records.change(self.ids.job, Withdraw("marked as failed", datetime.now(UTC)))


@asynccontextmanager
async def fake_execution_api(folder: Path) -> AsyncIterator[ExecutionBackend]:
    """The stand-in."""
    ids = TaskIds(ti_id=str(uuid.uuid4()), job=str(uuid.uuid4()), task_id="t")
    socket = folder / f"{uuid.uuid4().hex[:8]}.sock"
    async with serve_execution_api(socket) as api, aiohttp.ClientSession(connector=_unix(socket)) as session:
        yield Fake(api, session, ids)


@asynccontextmanager
async def real_execution_api(running: Keeper, _: Path) -> AsyncIterator[ExecutionBackend]:
    """A real gate with Airflow behind it."""
    async with real_gate_backend(running) as gate:
        yield Real(running, gate.relay, gate.ids)


def _unix(socket: Path) -> aiohttp.UnixConnector:
    return aiohttp.UnixConnector(str(socket))
