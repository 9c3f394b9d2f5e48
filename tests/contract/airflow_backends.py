"""The fake Airflow and a real one as the keeper uses them: the Execution API and the rows of task instances."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import aiohttp
import orjson

from contract.execution_reply import Reply
from edge_bridge.keeper.dispatch import Dispatches
from edge_bridge.keeper.tokens import TokenMint, TokenScope, TokenSubject, mint_from_config
from edge_schemas.wire.jobs import TaskIdentity
from support.airflow.fake_airflow import (
    DAG_ID,
    FakeAirflow,
    FakeDispatches,
    PlainSigner,
    running_fake_airflow,
)
from support.airflow.real_airflow import DAG_ID as REAL_DAG_ID
from support.airflow.real_airflow import RUN_ID, RealAirflow, add_task


@dataclass(frozen=True)
class Task:
    """A queued task instance.

    Attributes:
        dispatch: The job that it was queued for.
    """

    identity: TaskIdentity
    dispatch: str

    @property
    def path(self) -> str:
        """Of its own calls."""
        return f"task-instances/{self.identity.ti_id}"


class AirflowBackend(Protocol):
    """An Airflow as the keeper uses one.

    Attributes:
        url: Of the Execution API, with a slash at its end.
        mint: Makes its tokens.
        dispatches: Reads its rows.
    """

    url: str
    mint: TokenMint
    dispatches: Dispatches

    async def add_task(self) -> Task:
        """A new queued task instance."""

    async def set_variable(self, key: str, value: str) -> None:
        """A variable that tasks may read."""


@dataclass
class Fake:
    """See `AirflowBackend`."""

    airflow: FakeAirflow
    url: str
    mint: TokenMint
    dispatches: Dispatches

    async def add_task(self) -> Task:
        task = self.airflow.add(f"t-{uuid.uuid4().hex[:8]}", {})
        assert task.identity.dag_id == DAG_ID
        return Task(task.identity, task.dispatch)

    async def set_variable(self, key: str, value: str) -> None:
        self.airflow.variables[key] = value


@dataclass
class Real:
    """See `AirflowBackend`."""

    url: str
    mint: TokenMint
    dispatches: Dispatches

    async def add_task(self) -> Task:
        ids = await asyncio.to_thread(add_task)
        names = {"dag_id": REAL_DAG_ID, "run_id": RUN_ID, "task_id": ids.task_id}
        return Task(TaskIdentity(ti_id=ids.ti_id, try_number=1, map_index=-1, **names), ids.job)

    async def set_variable(self, key: str, value: str) -> None:
        def write() -> None:
            from airflow.models import Variable

            Variable.set(key, value)

        await asyncio.to_thread(write)


@asynccontextmanager
async def fake_airflow() -> AsyncIterator[AirflowBackend]:
    """The fake one."""
    async with running_fake_airflow() as airflow:
        yield Fake(airflow, f"{airflow.url}/execution/", TokenMint(PlainSigner()), FakeDispatches(airflow))


@asynccontextmanager
async def real_airflow(airflow: RealAirflow) -> AsyncIterator[AirflowBackend]:
    """The real one, shared by all tests."""
    yield Real(airflow.execution_url, mint_from_config(), Dispatches())


@dataclass
class Caller:
    """Calls the Execution API in the name of tasks."""

    backend: AirflowBackend
    session: aiohttp.ClientSession

    async def call(self, task: Task, method: str, path: str, body: object = None) -> Reply:
        """One call."""
        token = self.backend.mint.mint(TokenSubject(task.identity.ti_id, TokenScope.EXECUTION))
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        data = None if body is None else orjson.dumps(body)
        async with self.session.request(method, self.backend.url + path, data=data, headers=headers) as reply:
            raw = await reply.read()
            return Reply(reply.status, reply.headers.get("Content-Type", ""), orjson.loads(raw) if raw else None)
