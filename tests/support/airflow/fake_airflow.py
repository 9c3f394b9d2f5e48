"""Airflow as the keeper sees it, without Airflow: an Execution API over HTTP and the rows of `task_instance`.

It answers as Airflow does where that matters after a cut: a second `/run` is accepted from the same process only,
another final state is refused, a heartbeat of a task that does not run is refused. Accepted writes are counted.
`tests/contract/test_airflow.py` runs the same cases against this Airflow and a real one.
"""

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar, cast

from aiohttp import web
from typing_extensions import override

from edge_bridge.keeper.dispatch import Dispatches, TaskRow
from edge_bridge.keeper.gate import evidence
from edge_schemas.wire.jobs import TaskIdentity

DAG_ID = "cut"
RUN_ID = "r1"
_INSTANT = "2026-01-01T00:00:00Z"
Answer = tuple[int, Any]
T = TypeVar("T")


@dataclass
class FakeTask:
    """A row of `task_instance`.

    Attributes:
        conf: Of its DAG run; a test passes values to user code in it.
        process: Host and pid that `/run` named.
        xcoms: The values by key.
        taken: The accepted writes, by what they write; a repeated final state is not counted again.
    """

    identity: TaskIdentity
    dispatch: str
    conf: dict[str, Any]
    state: str = "queued"
    xcoms: dict[str, Any] = field(default_factory=dict)
    process: tuple[str, int] | None = None
    last_heartbeat_at: datetime | None = None
    taken: Counter[str] = field(default_factory=Counter)


class FakeAirflow:
    """The tasks, and the API of all of them.

    Attributes:
        variables: By key; any other key is not found.
    """

    def __init__(self) -> None:
        self.url = ""
        self.tasks: dict[str, FakeTask] = {}
        self.variables: dict[str, str] = {}

    def add(self, task_id: str, conf: dict[str, Any], *, map_index: int = -1, try_number: int = 1) -> FakeTask:
        """A queued task instance with a new dispatch."""
        identity = TaskIdentity(
            ti_id=str(uuid.uuid4()),
            dag_id=DAG_ID,
            task_id=task_id,
            run_id=RUN_ID,
            try_number=try_number,
            map_index=map_index,
        )
        task = self.tasks[identity.ti_id] = FakeTask(identity, str(uuid.uuid4()), conf)
        return task

    async def handle(self, request: web.Request) -> web.Response:
        """Any call of the Execution API."""
        path = request.match_info["path"]
        # The signer of the tests puts the task instance where Airflow's token has it.
        task = self.tasks[request.headers["Authorization"].rpartition(" ")[2]]
        body = await request.json() if request.can_read_body else None
        # Airflow is not instant either; overlapping repeats get a chance to do harm.
        await asyncio.sleep(0.01)
        status, answer = self._answer(task, request.method, path, body)
        repeated = path.endswith("/state") and status == 200
        if request.method != "GET" and not path.endswith("/heartbeat") and status < 300 and not repeated:
            task.taken[f"{request.method} {path.replace(task.identity.ti_id, 'self')}"] += 1
        if answer is None:
            return web.Response(status=status)
        return web.Response(
            body=json.dumps(answer).encode(), status=status, headers={"Content-Type": "application/json"}
        )

    def _answer(self, task: FakeTask, method: str, path: str, body: Any) -> Answer:
        match (method, *path.split("/")):
            case ("PATCH", "task-instances", task.identity.ti_id, "run"):
                return self._run(task, (body["hostname"], body["pid"]))
            case ("PATCH", "task-instances", task.identity.ti_id, "state"):
                return self._end(task, body["state"])
            case ("PUT", "task-instances", task.identity.ti_id, "heartbeat"):
                if task.process != (body["hostname"], body["pid"]):
                    return 409, _reason("running_elsewhere")
                if task.state != "running":
                    return 409, _reason("not_running")
                task.last_heartbeat_at = datetime.now(UTC)
                return 204, None
            case ("PUT", "task-instances", task.identity.ti_id, "rtif"):
                return 201, {"message": "ok"}
            case ("POST", "xcoms", _, _, _, *key):
                task.xcoms["/".join(key)] = body
                return 201, {"message": "ok"}
            case ("GET", "variables", key) if key in self.variables:
                return 200, {"key": key, "value": self.variables[key]}
            case _:
                return 404, _reason("not_found")

    def _end(self, task: FakeTask, state: str) -> Answer:
        if task.state == state:
            return 200, None
        if task.state != "running":
            return 409, _reason("invalid_state")
        task.state = state
        return 204, None

    def _run(self, task: FakeTask, process: tuple[str, int]) -> Answer:
        if task.state != "queued" and (task.state != "running" or task.process != process):
            return 409, _reason("invalid_state")
        task.state, task.process, task.last_heartbeat_at = "running", process, datetime.now(UTC)
        run: dict[str, Any] = {
            "dag_id": DAG_ID,
            "run_id": RUN_ID,
            "logical_date": _INSTANT,
            "start_date": _INSTANT,
            "end_date": None,
            "data_interval_start": None,
            "data_interval_end": None,
            "partition_key": None,
            "run_after": _INSTANT,
            "run_type": "manual",
            "state": "running",
            "conf": task.conf,
            "consumed_asset_events": [],
        }
        return 200, {"dag_run": run, "max_tries": 0, "should_retry": False, "xcom_keys_to_clear": []}


class FakeDispatches(Dispatches):
    """The rows, as the keeper reads them."""

    def __init__(self, airflow: FakeAirflow) -> None:
        super().__init__()
        self._airflow = airflow

    @override
    async def many(self, ti_ids: Iterable[str]) -> dict[str, TaskRow]:
        return {ti_id: _row(self._airflow.tasks[ti_id]) for ti_id in ti_ids if ti_id in self._airflow.tasks}

    @override
    async def query(self, query: Callable[[], T]) -> T:
        """Of what repeats of writes read, this Airflow holds XComs only."""
        assert isinstance(query, partial)
        assert query.func is evidence.has_xcom
        task, key, sent = query.args
        xcoms = self._airflow.tasks[task.ti_id].xcoms
        return cast("T", key in xcoms and xcoms[key] == json.loads(sent.value))

    @override
    async def by_name(self, task: TaskIdentity) -> TaskRow | None:
        rows = [_row(found) for found in self._airflow.tasks.values() if _name(found.identity) == _name(task)]
        return rows[-1] if rows else None

    @override
    async def ping(self) -> None:
        """It is never away."""


class PlainSigner:
    """Stands in for the key: the token is the id of the task instance, and the API here accepts it."""

    def generate(self, extras: dict[str, str]) -> str:
        """See `edge_bridge.keeper.tokens.Signer`."""
        return extras["sub"]


@asynccontextmanager
async def running_fake_airflow() -> AsyncIterator[FakeAirflow]:
    """Served on a free port of loopback."""
    airflow = FakeAirflow()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/execution/{path:.*}", airflow.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    airflow.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield airflow
    finally:
        await runner.cleanup()


def _row(task: FakeTask) -> TaskRow:
    return TaskRow(task.state, task.dispatch, task.last_heartbeat_at, dag=task.identity.dag_id)


def _name(task: TaskIdentity) -> tuple[str, str, str, int]:
    return (task.dag_id, task.run_id, task.task_id, task.map_index)


def _reason(reason: str) -> dict[str, Any]:
    return {"detail": {"reason": reason, "message": reason, "previous_state": None, "current_state": None}}
