"""A log can be read while its task runs, and is whole at the end, with the link cut in between as well.

The latter is in `make test`, too: tests/faults/test_cut_matrix.py, tests/faults/test_airflow_long_cut.py.
"""

import pytest

from local.demo.live_log import watch_log
from local.system.airflow_api import wait_for_end
from local.system.system import LocalSystem
from support.nats.server import eventually
from support.system.inspection import admin, job_folders, until, uploaded_log

DAG, TASK = "chatter", "chat"
TICKS = [f"tick {n}" for n in range(20)]


async def _start(system: LocalSystem) -> str:
    await until(lambda: system.api.has_dag(DAG), timeout_s=30)
    return await system.api.trigger(DAG)


async def test_a_printed_line_is_in_airflow_s_answer_within_two_seconds(system: LocalSystem) -> None:
    run = await _start(system)
    watched = await watch_log(system.api, DAG, run, TASK, starts_with="tick")
    assert len(watched.delays) >= 10, watched
    assert watched.worst <= 2.0, watched


@pytest.mark.soak
async def test_a_log_is_whole_after_the_link_was_cut(system: LocalSystem) -> None:
    worker = system.workers["edge-1"]
    run = await _start(system)

    def printed() -> int:
        folders = job_folders(worker, DAG, run, TASK)
        log = folders[0] / "task.log" if folders else None
        return log.read_bytes().count(b'"tick ') if log and log.exists() else 0

    async with admin(system) as broker:
        await eventually(lambda: printed() >= 3, timeout_s=30, what="the task prints")
        folder = job_folders(worker, DAG, run, TASK)[0]
        await until(lambda: uploaded_log(broker, folder.name), what="some of it arrives")
        await system.cut()
        try:
            before = printed()
            await eventually(lambda: printed() >= before + 3, timeout_s=30, what="the task continues without a link")
        finally:
            await system.restore()
        assert await wait_for_end(system.api, DAG, run, timeout_s=90) == "success"
        folder = job_folders(worker, DAG, run, TASK)[0]
        local = (folder / "task.log").read_bytes()

        async def whole() -> bool:
            return await uploaded_log(broker, folder.name) == local

        await until(whole, timeout_s=30, what="the whole log arrives")
    lines = [line["event"] for line in await system.api.log(DAG, run, TASK)]
    assert [line for line in lines if str(line).startswith("tick")] == TICKS
