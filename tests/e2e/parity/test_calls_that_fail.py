"""A call at which the api-server fails each time, for what the call contains: the task ends as in the centre."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from local.system.airflow_api import wait_for_end
from local.system.system import LocalSystem
from support.system.inspection import job_folders, until

DAG = "refused"
TRIGGERS = {
    "refuse_run": "BEFORE UPDATE ON task_instance WHEN NEW.state = 'running' AND NEW.task_id LIKE 'run_refused%'",
    "refuse_xcom": "BEFORE INSERT ON xcom WHEN instr(NEW.value, 'REFUSE THIS')",
    "refuse_deferral": "BEFORE UPDATE ON task_instance WHEN NEW.state = 'deferred' AND NEW.dag_id = 'refused'",
}


@pytest.fixture
def refusing_database(system: LocalSystem) -> Iterator[None]:
    database = system.airflow.directory / "airflow.db"
    _execute(
        database,
        *(f"CREATE TRIGGER {name} {when} BEGIN SELECT RAISE(ABORT, 'refused'); END" for name, when in TRIGGERS.items()),
    )
    yield
    _execute(database, *(f"DROP TRIGGER {name}" for name in TRIGGERS))


def _execute(database: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.usefixtures("refusing_database")
async def test_a_task_ends_as_in_the_centre_with_the_reason_in_its_log(system: LocalSystem) -> None:
    worker = await system.add_worker("refused", ["refused"], slots=3)
    await until(lambda: system.api.has_dag(DAG), timeout_s=40)
    run = await system.api.trigger(DAG)
    assert await wait_for_end(system.api, DAG, run, timeout_s=150) == "failed"
    states = {ti["task_id"]: ti["state"] for ti in await system.api.task_instances(DAG, run)}
    assert len(states) == 6
    assert set(states.values()) == {"failed"}
    for call in ("run", "xcom", "deferral"):
        (folder,) = job_folders(worker, DAG, run, f"{call}_refused_edge")
        events = [json.loads(line)["event"] for line in (folder / "task.log").read_bytes().splitlines()]
        reason = next(event for event in events if "failed for good" in event)
        assert "api-server, 5 times" in reason
        assert "status 500" in reason
        assert reason in [line["event"] for line in await system.api.log(DAG, run, f"{call}_refused_edge")]
    await worker.stop()
    del system.workers["refused"]
