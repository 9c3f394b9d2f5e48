"""Keys of any text, a long query and a large XCom: at the edge a task sees what it sees at the centre."""

from typing import Any

from local.system.airflow_api import wait_for_end
from local.system.system import LocalSystem
from support.system.inspection import until

DAG = "wide"


async def test_a_task_at_the_edge_sees_what_it_sees_at_the_centre(system: LocalSystem) -> None:
    await until(lambda: system.api.has_dag(DAG), timeout_s=30)
    run = await system.api.trigger(DAG)
    assert await wait_for_end(system.api, DAG, run, timeout_s=150) == "success"
    edge: dict[str, list[Any]] = await system.api.xcom(DAG, run, "at_edge")
    centre: dict[str, list[Any]] = await system.api.xcom(DAG, run, "at_centre")
    assert edge == centre
    assert centre["/data/a.csv"] == [
        *[None, None, "an XCom /data/a.csv", "nothing", None, "a variable /data/a.csv", None, "nothing"],
        *[None, None, "a state /data/a.csv", None, "AirflowNotFoundException"],
    ], "the comparison is about something"
    assert centre["a long query"] == [0]
    assert await system.api.xcom(DAG, run, "pull") == 20 << 20
