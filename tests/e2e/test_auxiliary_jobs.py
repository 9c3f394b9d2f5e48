"""What Airflow has done at the edge besides tasks: a deadline's callback, and the test of a connection."""

import json
from pathlib import Path

from faults.chaos.ledger import Ledger, Line
from local.system.airflow_api import Json
from local.system.system import LocalSystem
from support.system.inspection import until

DAG = "overdue"


async def test_a_missed_deadline_calls_back_at_the_edge_once(system: LocalSystem, tmp_path: Path) -> None:
    await until(lambda: system.api.has_dag(DAG), timeout_s=40)
    ledger = Ledger(tmp_path / "ledger")
    run = await system.api.trigger(DAG, ledger.conf())

    async def noted() -> list[Line]:
        return ledger.lines(run)

    [line] = await until(noted, timeout_s=60, what="the callback runs")
    assert line.event == "late"
    await system.api.patch(f"dags/{DAG}/dagRuns/{run}", {"state": "failed"})


async def test_a_connection_is_tested_where_it_is_used(system: LocalSystem, tmp_path: Path) -> None:
    there = await _tested(system, "there", tmp_path)
    assert (there["state"], there["result_message"]) == ("success", f"Path {tmp_path} is existing.")


async def test_a_connection_that_does_not_work_is_said_to_fail(system: LocalSystem, tmp_path: Path) -> None:
    missing = await _tested(system, "missing", tmp_path / "missing")
    assert (missing["state"], missing["result_message"]) == ("failed", f"Path {tmp_path / 'missing'} does not exist.")


async def _tested(system: LocalSystem, name: str, path: Path) -> Json:
    connection = {"connection_id": name, "conn_type": "fs", "extra": json.dumps({"path": str(path)})}
    token = await system.api.enqueue_connection_test(connection, executor="edge")

    async def ended() -> Json | None:
        found = await system.api.connection_test(token)
        return found if found["state"] in {"success", "failed"} else None

    found = await until(ended, timeout_s=60, what="the connection is tested")
    assert found is not None
    return found
