"""Real tasks whose writes lose their answers between keeper and api-server end as they would have, on PostgreSQL."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio

from faults.chaos.ledger import Ledger
from local.system.airflow_api import ApiRefused
from local.system.system import LocalSystem
from support.airflow import postgres
from support.network.http_link import Fault, HttpLink, Point
from support.system.inspection import until
from support.system.whole_system import OPTIONS

DAGS = Path(__file__).parent / "repeats_dags"
WRITES = ("POST", "PUT", "PATCH", "DELETE")

pytestmark = [
    pytest.mark.soak,
    postgres.needed(),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(900),
]


@dataclass
class Writers:
    """A whole system, with a link between its keeper and its api-server.

    Attributes:
        expected: What becomes of a run without a fault.
    """

    system: LocalSystem
    link: HttpLink
    ledger: Ledger
    expected: dict[str, Any]

    async def result(self) -> dict[str, Any]:
        """What becomes of a run: what Airflow shows of it, and how often user code began."""
        api = self.system.api
        run = await api.trigger("repeats", self.ledger.conf())

        async def state_at_the_end() -> str | None:
            try:
                state = await api.run_state("repeats", run)
            except (aiohttp.ClientError, ApiRefused):
                # The api-server was killed and starts again.
                return None
            return state if state in {"success", "failed"} else None

        state = await until(state_at_the_end, timeout_s=600, what="the run ends")
        tasks = sorted(
            (found["task_id"], found["map_index"], found["state"], found["try_number"])
            for found in await api.task_instances("repeats", run)
        )
        target = f"of-{run}"
        lives = [*self.ledger.lives(run), *self.ledger.lives(target)]
        events = await api.get("assets/events", source_run_id=run)
        other = await api.get(f"dags/repeated/dagRuns/{quote(target, safe='')}")
        return {
            "run": state,
            "tasks": tasks,
            "begun": Counter((str(life.instance), *life.events) for life in lives),
            "outputs": [await api.xcom("repeats", run, "outputs", key=key) for key in ("a", "b")],
            "squares": [await api.xcom("repeats", run, "square", map_index=index) for index in range(3)],
            "variable": await api.xcom("repeats", run, "variables"),
            "asset events": events["total_entries"],
            "other run": other["state"],
        }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def writers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Writers]:
    folder = tmp_path_factory.mktemp("repeats")
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(postgres.postgres())
        link = await stack.enter_async_context(HttpLink("127.0.0.1", 0))
        options = {
            **OPTIONS,
            ("database", "sql_alchemy_conn"): database,
            ("edge_relay", "execution_api_url"): f"{link.url}/execution/",
        }
        system = LocalSystem(folder / "system", dags=[DAGS], options=options)
        link.lead_to(system.airflow.url)
        stack.push_async_callback(system.stop)
        await system.start(slots=8)
        writers = Writers(system, link, Ledger(folder / "ledger"), {})
        for dag in ("repeats", "repeated"):
            await until(partial(system.api.has_dag, dag), timeout_s=60, what=dag)
        writers.expected |= await writers.result()
        yield writers


async def test_without_a_fault_the_run_succeeds(writers: Writers) -> None:
    expected = writers.expected
    assert (expected["run"], expected["other run"], expected["asset events"]) == ("success", "success", 1)
    assert (expected["squares"], expected["variable"]) == ([1, 4, 9], "v")
    assert expected["begun"]["once", "begin"] == 2, "triggered, then cleared"


@pytest.mark.parametrize(
    ("fault", "at"),
    [
        (Fault.SERVER_ERROR, Point.REQUEST),
        (Fault.SERVER_ERROR, Point.ANSWER),
        (Fault.BAD_GATEWAY, Point.REQUEST),
        (Fault.BAD_GATEWAY, Point.ANSWER),
        (Fault.RESET, Point.REQUEST),
        (Fault.RESET, Point.ANSWER),
        (Fault.HALF_ANSWER, Point.ANSWER),
        (Fault.BLACK_HOLE, Point.ANSWER),
    ],
)
async def test_the_first_try_of_each_write_fails(writers: Writers, fault: Fault, at: Point) -> None:
    strikes = [writers.link.arm(fault, method, "/execution/", at=at, each=True) for method in WRITES]
    try:
        assert await writers.result() == writers.expected
    finally:
        for strike in strikes:
            writers.link.disarm(strike)
    assert sum(strike.count for strike in strikes) > len(writers.expected["tasks"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/run$"),
        ("PUT", "/rtif$"),
        ("POST", "/xcoms/.*/outputs/"),
        ("POST", "/xcoms/.*mapped_length"),
        ("PUT", "/variables/"),
        ("DELETE", "/variables/"),
        ("PATCH", "/skip-downstream$"),
        ("PATCH", "/state$"),
        ("POST", "/dag-runs/repeated/[^/]+$"),
        ("POST", "/dag-runs/repeated/[^/]+/clear$"),
    ],
)
async def test_the_api_server_is_killed_between_commit_and_answer(writers: Writers, method: str, path: str) -> None:
    server = writers.system.airflow.children["api-server"]

    async def restart() -> None:
        await server.crash()
        await server.start()

    strike = writers.link.arm(Fault.RESET, method, path, at=Point.ANSWER, meanwhile=restart)
    assert await writers.result() == writers.expected
    assert strike.happened.is_set()
    await until(writers.system.airflow.is_ready, timeout_s=120, what="the api-server is back")
