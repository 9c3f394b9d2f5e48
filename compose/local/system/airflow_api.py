"""Airflow's public REST API: the calls that the system, the demo and the tests need."""

import asyncio
from collections.abc import Mapping
from itertools import count
from typing import Any, TypeAlias
from urllib.parse import quote

import aiohttp

Json: TypeAlias = dict[str, Any]
ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
_TIMEOUT = aiohttp.ClientTimeout(total=60)
_BUSY = "Database error"
_BUSY_TRIES = 10


class ApiRefused(Exception):
    """The API answered with an error.

    Attributes:
        status: The HTTP status.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"Airflow answered {status}: {text}")
        self.status = status


class AirflowApi:
    """A client for one user. It logs in at the first call."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url, self._login = url, {"username": user, "password": password}
        self._session: aiohttp.ClientSession | None = None
        self._token: str | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session:
            await self._session.close()
            self._session = None

    async def is_healthy(self) -> bool:
        """Whether scheduler and dag-processor sent a recent heartbeat. False if the api-server cannot be reached."""
        try:
            health = await self._call("GET", "/api/v2/monitor/health")
        except (aiohttp.ClientError, ApiRefused, TimeoutError):
            return False
        return all(health[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))

    async def warm_up(self) -> bool:
        """Call the Execution API once. Its first call takes seconds; without this call the first task would wait."""
        try:
            return bool(await self._call("GET", "/execution/health/ping"))
        except (aiohttp.ClientError, ApiRefused, TimeoutError):
            return False

    async def log_in(self) -> str:
        """The user's token, which is requested once.

        Raises:
            ApiRefused: With status 401, this Airflow does not know the user with this password.
        """
        if self._token is None:
            answer = await self._call("POST", "/auth/token", json=self._login)
            self._token = str(answer["access_token"])
        return self._token

    async def get(self, path: str, **params: str | int) -> Json:
        """GET below `/api/v2/`.

        Raises:
            ApiRefused: Any status except 2xx.
        """
        return await self._authorized("GET", path, params=params)

    async def post(self, path: str, body: Json) -> Json:
        """POST below `/api/v2/`; raises as `get`."""
        return await self._authorized("POST", path, json=body)

    async def patch(self, path: str, body: Json) -> Json:
        """PATCH below `/api/v2/`; raises as `get`."""
        return await self._authorized("PATCH", path, json=body)

    async def delete(self, path: str) -> None:
        """DELETE below `/api/v2/`; raises as `get`."""
        await self._authorized("DELETE", path)

    async def has_dag(self, dag: str) -> bool:
        """Whether the DAG was parsed and stored."""
        try:
            return bool(await self.get(f"dags/{dag}"))
        except ApiRefused as refused:
            if refused.status == 404:
                return False
            raise

    async def trigger(self, dag: str, conf: Json | None = None) -> str:
        """Start a run and return its id."""
        run = await self.post(f"dags/{dag}/dagRuns", {"logical_date": None, "conf": conf or {}})
        return str(run["dag_run_id"])

    async def bundle_version(self, dag: str) -> str:
        """The version of the bundle that the next run of the DAG begins with; empty if its bundle has no versions."""
        return str((await self.get(f"dags/{dag}"))["bundle_version"] or "")

    async def clear_run(self, dag: str, run: str, *, on_latest: bool = False) -> None:
        """Run all tasks of a run again, with the code that it began with or with the latest."""
        order = {"dry_run": False, "only_failed": False, "run_on_latest_version": on_latest}
        await self.post(f"dags/{dag}/dagRuns/{quote(run, safe='')}/clear", order)

    async def run_state(self, dag: str, run: str) -> str:
        """The state of a DAG run."""
        return str((await self.get(f"dags/{dag}/dagRuns/{quote(run, safe='')}"))["state"])

    async def task_instances(self, dag: str, run: str) -> list[Json]:
        """All task instances of a run. Each instance of a mapped task is listed."""
        answer = await self.get(f"dags/{dag}/dagRuns/{quote(run, safe='')}/taskInstances", limit=100)
        return list(answer["task_instances"])

    async def tries(self, dag: str, run: str, task: str, map_index: int = -1) -> list[Json]:
        """All tries of a task instance, oldest first."""
        mapped = f"/{map_index}" if map_index >= 0 else ""
        answer = await self.get(f"{_task(dag, run, task)}{mapped}/tries")
        return sorted(answer["task_instances"], key=lambda found: int(found["try_number"]))

    async def xcom(self, dag: str, run: str, task: str, *, key: str = "return_value", map_index: int = -1) -> Any:
        """The XCom value of a task."""
        answer = await self.get(f"{_task(dag, run, task)}/xcomEntries/{key}", map_index=map_index)
        return answer["value"]

    async def log(self, dag: str, run: str, task: str, *, attempt: int = 1, map_index: int = -1) -> list[Json]:
        """The log of a task, one dict per line, as the log view shows it."""
        answer = await self.get(f"{_task(dag, run, task)}/logs/{attempt}", map_index=map_index, full_content="true")
        return [line if isinstance(line, dict) else {"event": line} for line in answer["content"]]

    async def enqueue_connection_test(self, connection: Json, *, executor: str) -> str:
        """Request a connection test; returns the token of the test. Needs `[core] test_connection = Enabled`."""
        answer = await self.post("connections/enqueue-test", {**connection, "executor": executor})
        return str(answer["token"])

    async def connection_test(self, token: str) -> Json:
        """The state of a connection test."""
        headers = {"Airflow-Connection-Test-Token": token}
        return await self._authorized("GET", "connections/enqueue-test", headers=headers)

    async def set_state(self, dag: str, run: str, task: str, state: str, map_index: int = -1) -> None:
        """Mark a task instance as success or failed, as a user would."""
        mapped = f"/{map_index}" if map_index >= 0 else ""
        await self.patch(f"{_task(dag, run, task)}{mapped}", {"new_state": state})

    async def _authorized(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Json:
        login = {"Authorization": f"Bearer {await self.log_in()}"}
        for attempt in count(1):
            try:
                return await self._call(method, f"/api/v2/{path}", headers={**login, **(headers or {})}, **options)
            except ApiRefused as refused:
                if refused.status != 500 or _BUSY not in str(refused) or attempt == _BUSY_TRIES:
                    raise
            # SQLite accepts one writer at a time. Airflow returned an error and changed nothing.
            await asyncio.sleep(0.5)
        raise AssertionError

    async def _call(self, method: str, path: str, **options: Any) -> Json:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        async with self._session.request(method, self._url + path, **options) as answer:
            if answer.status >= 300:
                raise ApiRefused(answer.status, (await answer.text())[:500])
            found: Json = await answer.json() if answer.status != 204 else {}
            return found


def _task(dag: str, run: str, task: str) -> str:
    return f"dags/{dag}/dagRuns/{quote(run, safe='')}/taskInstances/{task}"


async def wait_for_end(api: AirflowApi, dag: str, run: str, *, timeout_s: float) -> str:
    """Wait for the end of a run and return its state.

    Raises:
        TimeoutError: The run has not ended.
    """
    async with asyncio.timeout(timeout_s):
        while True:
            state = await api.run_state(dag, run)
            if state in {"success", "failed"}:
                return state
            await asyncio.sleep(0.2)
