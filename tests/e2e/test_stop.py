"""A task that a user marks as failed goes, with all it started."""

import os

from local.system.system import LocalSystem
from support.nats.server import eventually
from support.system.inspection import until

DAG, TASK = "endless", "run_on"


async def test_marking_a_task_failed_ends_its_processes(system: LocalSystem) -> None:
    await until(lambda: system.api.has_dag(DAG), timeout_s=30)
    run = await system.api.trigger(DAG)

    async def pids() -> list[int]:
        states = [ti["state"] for ti in await system.api.task_instances(DAG, run)]
        if states != ["running"]:
            return []
        said = [str(line["event"]) for line in await system.api.log(DAG, run, TASK)]
        return [int(pid) for line in said if line.startswith("pids ") for pid in line.split()[1:]]

    task, child = await until(pids, timeout_s=30, what="the task runs and says who it is")
    assert all(_runs(pid) for pid in (task, child))
    await system.api.set_state(DAG, run, TASK, "failed")
    await eventually(lambda: not _runs(task) and not _runs(child), timeout_s=20, what="both processes go")
    assert [ti["state"] for ti in await system.api.task_instances(DAG, run)] == ["failed"]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
