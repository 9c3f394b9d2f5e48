"""An Airflow whose only executor is ours: tasks that name none run at the edge."""

from pathlib import Path

import pytest

from local.system.airflow import ONLY_RELAY
from local.system.airflow_api import wait_for_end
from local.system.system import LocalSystem
from support.system.inspection import until

DAG = "sole"


@pytest.mark.soak
async def test_tasks_without_an_executor_run_at_the_edge(tmp_path: Path) -> None:
    dags = Path(__file__).parent / "sole_dags"
    directory = tmp_path / ("a folder with a long name, blanks and ümläute " * 3)
    system = LocalSystem(directory, executor=ONLY_RELAY, dags=[dags])
    try:
        await system.start(queues=["default"])
        await until(lambda: system.api.has_dag(DAG), timeout_s=30)
        run = await system.api.trigger(DAG)
        assert await wait_for_end(system.api, DAG, run, timeout_s=60) == "success"
        worker = system.workers["edge-1"].hostname
        assert {ti["hostname"] for ti in await system.api.task_instances(DAG, run)} == {worker}
        assert await system.api.xcom(DAG, run, "second") == 21
    finally:
        await system.stop()
