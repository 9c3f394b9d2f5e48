"""`priority_weight` behind a backlog, with a real scheduler and a real worker."""

from local.system.airflow_api import wait_for_end
from local.system.system import LocalSystem
from support.system.inspection import until

BACKLOG, LATER = "weightless", "weighty"
SLOTS, PUBLISHED_AHEAD = 4, 4


async def test_a_later_task_of_high_weight_overtakes_a_backlog(system: LocalSystem) -> None:
    """All tasks of the backlog are with the executor when it comes; most of them start after it."""
    api = system.api
    await until(lambda: api.has_dag(BACKLOG), timeout_s=40, what=BACKLOG)
    await until(lambda: api.has_dag(LATER), timeout_s=40, what=LATER)
    backlog = await api.trigger(BACKLOG)

    async def states() -> list[str]:
        return [str(ti["state"]) for ti in await api.task_instances(BACKLOG, backlog)]

    async def all_are_out() -> bool:
        found = await states()
        return len(found) == 30 and set(found) <= {"queued", "running", "success"} and found.count("running") > 0

    await until(all_are_out, timeout_s=60, what="the whole backlog is queued")
    later = await api.trigger(LATER)
    assert await wait_for_end(api, LATER, later, timeout_s=60) == "success"
    assert "queued" in await states(), "it came after the whole backlog"
    [task] = await api.task_instances(LATER, later)
    queued, started = task["queued_when"], task["start_date"]
    others = [ti["start_date"] for ti in await api.task_instances(BACKLOG, backlog)]
    between = [other for other in others if other is not None and queued < other < started]
    assert len(between) <= PUBLISHED_AHEAD + SLOTS
    assert await wait_for_end(api, BACKLOG, backlog, timeout_s=120) == "success"
