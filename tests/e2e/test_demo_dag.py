"""The DAG of the demo: every kind of task it has, what it leaves, and its logs."""

from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from local.demo.checks import Findings, check_findings
from local.demo.console import Progress
from local.demo.run_demo import print_findings, run_dag
from local.system.proxy import host_and_port
from local.system.system import LocalSystem
from support.system.inspection import admin, job_folders, until, uploaded_log

DAG = "demo"
EDGE_TASKS = {"make", "square", "greet", "stumble", "talk"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def findings(system: LocalSystem) -> Findings:
    """What `make demo` does between start and stop."""
    return await run_dag(system, Progress())


@pytest.fixture(scope="module")
def run(findings: Findings) -> str:
    """The run of the DAG, which has ended."""
    return str(findings.instances[0]["dag_run_id"])


async def test_the_demo_finds_everything_in_order(findings: Findings, capsys: pytest.CaptureFixture[str]) -> None:
    # Workers of other tests reach other addresses through the same proxy; `test_isolation` looks at this worker's.
    own = "{}:{}".format(*host_and_port(findings.relay_url))
    findings = replace(findings, tunnels=[tunnel for tunnel in findings.tunnels if tunnel == own])
    print_findings(findings)
    assert "Excerpt of the log of 'talk'" in capsys.readouterr().out
    assert [check for check in check_findings(findings) if check.passed is False] == []
    assert findings.run_state == "success"


async def test_every_task_succeeds(system: LocalSystem, run: str) -> None:
    states = {(ti["task_id"], ti["map_index"]): ti["state"] for ti in await system.api.task_instances(DAG, run)}
    assert len(states) == 26
    assert set(states.values()) == {"success"}, states


async def test_edge_tasks_run_on_the_worker_and_the_others_do_not(system: LocalSystem, run: str) -> None:
    worker = system.workers["edge-1"].hostname
    at_edge = {ti["task_id"]: ti["hostname"] == worker for ti in await system.api.task_instances(DAG, run)}
    assert {task for task, there in at_edge.items() if there} == EDGE_TASKS


async def test_xcoms_travel_both_ways(system: LocalSystem, run: str) -> None:
    assert await system.api.xcom(DAG, run, "order") == {"part": "bolt", "count": 20}
    assert await system.api.xcom(DAG, run, "make") == list(range(20))
    assert [await system.api.xcom(DAG, run, "square", map_index=n) for n in range(20)] == [n * n for n in range(20)]
    assert await system.api.xcom(DAG, run, "total") == 2470


async def test_params_reach_templates_at_the_edge(system: LocalSystem, run: str) -> None:
    assert await system.api.xcom(DAG, run, "greet") == "Hello Ada, this is try 1 of greet"


async def test_a_failed_try_is_retried_and_both_logs_can_be_read(system: LocalSystem, run: str) -> None:
    tries = await system.api.tries(DAG, run, "stumble")
    assert [(each["try_number"], each["state"]) for each in tries] == [(1, "failed"), (2, "success")]
    first = await system.api.log(DAG, run, "stumble", attempt=1)
    second = await system.api.log(DAG, run, "stumble", attempt=2)
    assert "the first try fails on purpose" in str(first)
    assert "the first try fails on purpose" not in str(second)


@pytest.mark.parametrize(("task", "map_index", "jobs"), [("talk", -1, 1), ("square", 7, 1), ("stumble", -1, 2)])
async def test_an_ended_log_equals_the_worker_s_file(
    system: LocalSystem, run: str, task: str, map_index: int, jobs: int
) -> None:
    folders = job_folders(system.workers["edge-1"], DAG, run, task, map_index)
    assert len(folders) == jobs
    async with admin(system) as broker:
        for folder in folders:
            local = (folder / "task.log").read_bytes()
            assert local

            async def arrived(job: str = folder.name, expected: bytes = local) -> bool:
                return await uploaded_log(broker, job) == expected

            await until(arrived, what=f"the whole log of {task} arrives")


async def test_the_log_view_shows_what_the_task_printed(system: LocalSystem, run: str) -> None:
    lines: list[dict[str, Any]] = await system.api.log(DAG, run, "talk")
    assert [line["event"] for line in lines if line.get("logger") == "task.stdout"] == [f"tick {n}" for n in range(12)]
