"""A stand-in for the agent's local gateway: the Execution API of a few tasks, on a real Unix socket.

`tests/contract/test_execution_api.py` runs the same cases against this API and a keeper's gate with a real Airflow.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

Answer = tuple[int, Any]


@dataclass(frozen=True)
class Call:
    """A call that arrived."""

    job: str
    method: str
    path: str
    request_id: str
    body: Any


@dataclass
class ExecutionApi:
    """The answers, and the calls so far; both outlive a restart of the server.

    Attributes:
        variables: By key; any other key is not found.
        connections: By id: type, host and all other fields that are set.
        connection_tests: The reports on connection tests, by their id.
        should_retry: In the context of each task.
        stop: Jobs that are to stop: all their calls are refused as "not running".
        held: Calls wait until the event of the end of their path is set.
        refuse_run: The answer to each `/run`, if set.
        failures: The answer to calls by the end of their path.
    """

    socket: Path
    variables: dict[str, str] = field(default_factory=dict)
    connections: dict[str, dict[str, Any]] = field(default_factory=dict)
    connection_tests: dict[str, dict[str, Any]] = field(default_factory=dict)
    should_retry: bool = False
    stop: set[str] = field(default_factory=set)
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    refuse_run: Answer | None = None
    failures: dict[str, Answer] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    xcoms: dict[str, Any] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    _runner: web.AppRunner | None = None
    _transports: set[asyncio.Transport] = field(default_factory=set)

    async def start(self) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_route("*", "/jobs/{job}/execution/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=5)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.socket)).start()

    async def die(self) -> None:
        """Cut every connection and stop listening."""
        runner, self._runner = self._runner, None
        self.socket.unlink(missing_ok=True)
        for transport in self._transports:
            transport.abort()
        self._transports.clear()
        if runner is not None:
            await runner.cleanup()

    def paths(self, job: str) -> list[str]:
        """What a job asked for, without its heartbeats."""
        return [f"{c.method} {c.path}" for c in self.calls if c.job == job and not c.path.endswith("/heartbeat")]

    async def _handle(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        self._transports.add(request.transport)
        path, job = request.match_info["path"], request.match_info["job"]
        body = await request.json() if request.can_read_body else None
        self.calls.append(Call(job, request.method, path, request.headers["X-Request-Id"], body))
        for end, event in self.held.items():
            if path.endswith(end):
                await event.wait()
        status, answer = self.answer(job, request.method, path, body)
        if status == 204:
            return web.Response(status=204)
        # Airflow's client knows an error by exactly this content type.
        return web.Response(
            body=json.dumps(answer).encode(), status=status, headers={"Content-Type": "application/json"}
        )

    def answer(self, job: str, method: str, path: str, body: Any) -> Answer:
        """Airflow's answer to a call."""
        for end, failure in self.failures.items():
            if path.endswith(end):
                return failure
        if job in self.stop and job not in self.states:
            return 403 if method == "GET" else 409, _not_running()
        return self._wanted(job, method, path, body)

    def _wanted(self, job: str, method: str, path: str, body: Any) -> Answer:
        kind, _, rest = path.partition("/")
        last = path.rpartition("/")[2]
        match kind, last:
            case "task-instances", "run":
                self.runs[job] = body
                return self.refuse_run or (200, self._run_context())
            case "task-instances", "heartbeat":
                return 204, None
            case "task-instances", "state":
                self.states[job] = body["state"]
                return 204, None
            case "task-instances", "rtif":
                return 201, {"message": "ok"}
            case "xcoms", _ if method == "POST":
                self.xcoms[path] = body
                return 201, {"message": "ok"}
            case "variables", _ if rest in self.variables:
                return 200, {"key": rest, "value": self.variables[rest]}
            case "connections", _ if rest in self.connections:
                return 200, self._connection(rest)
            case "connection-tests", "connection":
                return 200, self._connection("tested")
            case "connection-tests", _:
                self.connection_tests[rest] = body
                return 204, None
            case _:
                return 404, {"detail": {"reason": "not_found", "message": f"no {path}"}}

    def _connection(self, conn_id: str) -> dict[str, Any]:
        nothing = dict.fromkeys(("host", "schema", "login", "password", "port", "extra"))
        return {"conn_id": conn_id, **nothing, **self.connections[conn_id]}

    def _run_context(self) -> dict[str, Any]:
        instant = "2026-01-01T00:00:00Z"
        run: dict[str, Any] = {
            "dag_id": "d",
            "run_id": "r1",
            "logical_date": instant,
            "start_date": instant,
            "end_date": None,
            "data_interval_start": None,
            "data_interval_end": None,
            "partition_key": None,
            "run_after": instant,
            "run_type": "manual",
            "state": "running",
            "conf": None,
            "consumed_asset_events": [],
        }
        return {"dag_run": run, "max_tries": 1, "should_retry": self.should_retry, "xcom_keys_to_clear": []}


def _not_running() -> dict[str, Any]:
    return {"detail": {"reason": "not_running", "message": "x", "current_state": "failed"}}


@asynccontextmanager
async def serve_execution_api(socket: Path) -> AsyncIterator[ExecutionApi]:
    """An Execution API on a socket, ended with the block."""
    api = ExecutionApi(socket)
    await api.start()
    try:
        yield api
    finally:
        for event in api.held.values():
            event.set()
        await api.die()


async def eventually(condition: Callable[[], bool | Awaitable[bool]], *, within_s: float = 30) -> None:
    """Wait until a condition holds, looking often."""
    async with asyncio.timeout(within_s):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.02)
