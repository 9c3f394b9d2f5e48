"""Queues with a backlog: a queue that nobody serves is no load on anybody else, and `priority_weight` decides.

The executor's part of both is in `make test`: tests/integration/executor/test_reconcile.py and test_queue_order.py.
"""

from urllib.parse import quote

import pytest

from edge_broker.subjects import JOBS, queue_filter
from local.system.airflow_api import wait_for_end
from local.system.system import LocalSystem
from support.system.inspection import admin, until

CROWD, CENTRE = "crowd", "centre_only"
TASKS = 500
BACKLOG, LATER = "weightless", "weighty"
SLOTS, PUBLISHED_AHEAD = 4, 4


@pytest.mark.soak
async def test_five_hundred_waiting_tasks_slow_no_other_executor(system: LocalSystem) -> None:
    """With `[core] parallelism` at 32, the local executor would stand still if they counted."""
    api = system.api
    await until(lambda: api.has_dag(CROWD), timeout_s=30)
    await api.post("pools", {"name": "crowd", "slots": 1000})
    run = await api.trigger(CROWD)
    path = f"dags/{CROWD}/dagRuns/{quote(run, safe='')}"

    async def queued() -> int:
        return int((await api.get(f"{path}/taskInstances", state="queued", limit=1))["total_entries"])

    async def stored() -> int:
        async with admin(system) as broker:
            info = await broker.api(f"STREAM.INFO.{JOBS}", {"subjects_filter": queue_filter(None, "nobody")})
            return len(info["state"].get("subjects") or {})

    async def all_wait() -> bool:
        return await queued() == TASKS and await stored() == PUBLISHED_AHEAD

    await until(all_wait, timeout_s=150, what="all of them wait, the first of them with a message")
    assert await wait_for_end(api, CENTRE, await api.trigger(CENTRE), timeout_s=60) == "success"
    assert await queued() == TASKS

    await api.patch(path, {"state": "failed"})

    async def none_left() -> bool:
        return await stored() == 0

    await until(none_left, timeout_s=60, what="what Airflow no longer wants leaves the queue")


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
