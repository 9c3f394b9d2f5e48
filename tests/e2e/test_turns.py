"""Airflow's own turns, for tasks at the edge. All runs are started together; each test waits for its own."""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from urllib.parse import quote

import pytest
import pytest_asyncio

from edge_broker.records import RecordStore
from faults.chaos.ledger import Ledger, Life
from local.system.airflow_api import Json, wait_for_end
from local.system.system import LocalSystem
from support.system.inspection import admin, job_folders, until

LINGERING = ("cleared", "removed", "dropped", "marked")
DAGS = (
    *("killed", "deferring", "rescheduled", "timed_out_task", "trigger_rules", "rigged"),
    *("calling", "bulky", "calling_back", "unhurried"),
)


@dataclass
class Turns:
    """The runs and what their tasks wrote down.

    Attributes:
        runs: The id of each DAG's run; those of the DAG `lingering` by what is to become of them.
    """

    system: LocalSystem
    ledger: Ledger
    runs: dict[str, str] = field(default_factory=dict)

    async def start(self, name: str, dag: str) -> None:
        """Trigger one."""
        await until(lambda: self.system.api.has_dag(dag), timeout_s=40, what=dag)
        self.runs[name] = await self.system.api.trigger(dag, self.ledger.conf())

    async def ended(self, name: str, *, dag: str | None = None, timeout_s: float = 90) -> str:
        """How a run ended."""
        return await wait_for_end(self.system.api, dag or name, self.runs[name], timeout_s=timeout_s)

    async def states(self, name: str, *, dag: str | None = None) -> dict[str, str]:
        """The state of each task; of a mapped one, the states of all."""
        found: dict[str, list[str]] = {}
        for ti in sorted(
            await self.system.api.task_instances(dag or name, self.runs[name]), key=lambda ti: int(ti["map_index"])
        ):
            found.setdefault(ti["task_id"], []).append(ti["state"] or "none")
        return {task: " ".join(each) for task, each in found.items()}

    def lives(self, name: str, task: str) -> list[Life]:
        """The processes that were a task."""
        return [life for life in self.ledger.lives(self.runs[name]) if life.instance.task == task]

    def events(self, name: str) -> list[tuple[str, ...]]:
        """What the processes of a run noted, in the order of their starts."""
        return [life.events for life in self.ledger.lives(self.runs[name])]

    async def lingering(self, name: str, task: str = "linger") -> Life:
        """The first process of a task, once it lives."""

        async def begun() -> list[Life]:
            return self.lives(name, task)

        return (await until(begun, timeout_s=60, what=f"the task of {name} begins"))[0]

    async def gone(self, life: Life, *, timeout_s: float = 20) -> None:
        """Wait for the end of a process and of its child."""
        pids = [life.pid, *(line.more["child"] for line in life.lines if "child" in line.more)]

        async def none_left() -> bool:
            return not any(_runs(pid) for pid in pids)

        await until(none_left, timeout_s=timeout_s, what=f"the processes of {life.instance} go")

    async def audit(self, name: str, *, dag: str | None = None) -> list[Json]:
        """Airflow's audit log of a run."""
        found = await self.system.api.get("eventLogs", dag_id=dag or name, run_id=self.runs[name], limit=100)
        return list(found["event_logs"])

    def path(self, name: str, dag: str) -> str:
        """Of a run in the REST API."""
        return f"dags/{dag}/dagRuns/{quote(self.runs[name], safe='')}"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def turns(system: LocalSystem, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Turns]:
    """All runs, just triggered, and a worker for them."""
    turns = Turns(system, Ledger(tmp_path_factory.mktemp("turns") / "ledger"))
    # Those that linger sleep on after SIGTERM, for as long as they may.
    worker = await system.add_worker("turns", ["turns"], slots=12, extra={"EDGE_WORKER_GRACE_S": "1"})
    # One after the other: SQLite takes no two transactions at once, and some calls would fail for it. First of all the
    # one that has to begin in time.
    for name in ("timed_out_run", *LINGERING, *DAGS):
        await turns.start(name, "lingering" if name in LINGERING else name)
    yield turns
    await worker.stop()
    del system.workers["turns"]


async def test_a_cleared_task_goes_before_it_runs_again(turns: Turns) -> None:
    """Without a try or `retry_delay` being spent: it is no retry."""
    first = await turns.lingering("cleared")
    await _clear(turns, "cleared", "lingering", "linger")
    assert await turns.ended("cleared", dag="lingering") == "success"
    old, new = turns.lives("cleared", "linger")
    assert old.pid == first.pid
    assert new.events == ("begin", "end")
    assert not _runs(old.pid)
    assert await turns.states("cleared", dag="lingering") == {"linger": "success", "after": "success"}


async def test_a_task_marked_as_success_goes_and_stays_so(turns: Turns) -> None:
    life = await turns.lingering("marked")
    await turns.system.api.set_state("lingering", turns.runs["marked"], "linger", "success")
    await turns.gone(life)
    assert await turns.ended("marked", dag="lingering") == "success"
    assert await turns.states("marked", dag="lingering") == {"linger": "success", "after": "success"}
    assert turns.events("marked") == [("begin",), ("begin",)]


async def test_the_processes_of_a_removed_task_instance_go(turns: Turns) -> None:
    life = await turns.lingering("removed")
    await turns.system.api.delete(f"{turns.path('removed', 'lingering')}/taskInstances/linger")
    await turns.gone(life)


async def test_the_processes_of_a_deleted_run_go(turns: Turns) -> None:
    """Airflow deletes only a run that it has ended; the task is still there at that moment."""
    life = await turns.lingering("dropped")
    await turns.system.api.patch(turns.path("dropped", "lingering"), {"state": "failed"})
    await turns.system.api.delete(turns.path("dropped", "lingering"))
    await turns.gone(life)


async def test_a_task_that_takes_too_long_fails_with_its_callback(turns: Turns) -> None:
    life = await turns.lingering("timed_out_task")
    assert await turns.ended("timed_out_task") == "failed"
    await turns.gone(life)
    assert turns.events("timed_out_task") == [("begin", "failure")]
    assert "Timeout" in str(await turns.system.api.log("timed_out_task", turns.runs["timed_out_task"], "linger"))


async def test_a_killed_task_is_retried_within_seconds_and_the_reason_is_told(turns: Turns) -> None:
    assert await turns.ended("killed") == "success"
    run = turns.runs["killed"]
    first, second = await turns.system.api.tries("killed", run, "die")
    assert (first["state"], second["state"]) == ("failed", "success")
    died, lived = turns.lives("killed", "die")
    assert [died.events, lived.events] == [("begin",), ("begin", "end")]
    # By the dates that the parts noted: user code died, the centre knew, Airflow failed the try, and the next began.
    # The last step, with a second of `retry_delay`, is the scheduler's, which has all these runs to see to.
    known = await _ended_at(turns, job_folders(turns.system.workers["turns"], "killed", run, "die")[0].name)
    dates = [died.last_seen, known, _timestamp(first["end_date"]), lived.began]
    took = [later - earlier for earlier, later in pairwise(dates)]
    assert all(each < most for each, most in zip(took, (5, 10, 30), strict=True)), took
    assert "SIGKILL" in str([entry["extra"] for entry in await turns.audit("killed")])
    assert "SIGKILL" in str(await turns.system.api.log("killed", run, "die", attempt=1))


async def test_a_deferred_task_resumes_within_its_try(turns: Turns) -> None:
    assert await turns.ended("deferring") == "success"
    assert turns.events("deferring") == [("begin",), ("end",)]
    await _in_one_try(turns, "deferring", "wait", jobs=2)
    assert str(await turns.system.api.xcom("deferring", turns.runs["deferring"], "wait")).startswith("this of ")


async def test_a_rescheduled_sensor_leaves_between_its_pokes(turns: Turns) -> None:
    assert await turns.ended("rescheduled") == "success"
    assert turns.events("rescheduled") == [("begin",)] * 3
    await _in_one_try(turns, "rescheduled", "poke", jobs=3)
    assert await turns.system.api.xcom("rescheduled", turns.runs["rescheduled"], "poke") == "seen"


async def test_trigger_rules_see_what_became_of_edge_tasks(turns: Turns) -> None:
    assert await turns.ended("trigger_rules") == "failed"
    assert await turns.states("trigger_rules") == {
        "halve": "success failed success",
        "all_done": "success",
        "one_failed": "success",
        "all_success": "upstream_failed",
        "all_failed": "skipped",
    }


async def test_a_teardown_follows_failed_work(turns: Turns) -> None:
    assert await turns.ended("rigged") == "failed"
    assert await turns.states("rigged") == {"rig": "success", "work": "failed", "unrig": "success"}
    assert await turns.system.api.xcom("rigged", turns.runs["rigged"], "unrig") == "no rig"


async def test_a_task_triggers_a_run_and_waits_for_it(turns: Turns) -> None:
    assert await turns.ended("calling") == "success"
    answered = [life for life in turns.ledger.lives() if life.instance.dag == "called"]
    assert [life.events for life in answered] == [("end",)]
    [ti] = await turns.system.api.task_instances("calling", turns.runs["calling"])
    assert answered[0].last_seen < _timestamp(ti["end_date"])


async def test_an_xcom_of_megabytes_travels_both_ways(turns: Turns) -> None:
    assert await turns.ended("bulky") == "success"
    assert await turns.system.api.xcom("bulky", turns.runs["bulky"], "weigh") == 5_000_000


async def test_callbacks_run_where_the_task_ran(turns: Turns) -> None:
    assert await turns.ended("calling_back") == "failed"
    assert turns.events("calling_back").count(("end", "success")) == 1
    assert [life.events for life in turns.lives("calling_back", "fail")] == [("raise", "retry"), ("raise", "failure")]


async def test_a_worker_that_comes_later_runs_what_waited_and_was_cleared(turns: Turns) -> None:
    """The clear gives the task another dispatch: the first one's job must not be run as well."""
    path = f"{turns.path('unhurried', 'unhurried')}/taskInstances/once"

    async def queued() -> str:
        found = await turns.system.api.get(path)
        return str(found["id"]) if found["state"] == "queued" else ""

    before = await until(queued, timeout_s=60, what="it waits")
    await _clear(turns, "unhurried", "unhurried", "once")

    async def queued_again() -> bool:
        return await queued() not in {"", before}

    await until(queued_again, timeout_s=30, what="it waits anew")
    worker = await turns.system.add_worker("latecomer", ["later"])
    assert await turns.ended("unhurried") == "success"
    assert turns.events("unhurried") == [("begin", "end")]
    await worker.stop()
    assert len(job_folders(worker, "unhurried", turns.runs["unhurried"], "once")) == 1
    del turns.system.workers["latecomer"]


async def test_a_run_that_takes_too_long_takes_its_tasks_along(turns: Turns) -> None:
    async def begun_or_ended() -> bool:
        state = await turns.system.api.run_state("timed_out_run", turns.runs["timed_out_run"])
        return state == "failed" or bool(turns.lives("timed_out_run", "linger"))

    await until(begun_or_ended, timeout_s=60)
    if not turns.lives("timed_out_run", "linger"):
        # A busy machine: the run's time was over before its task began. By now there is less to do.
        await turns.start("timed_out_run", "timed_out_run")
    life = await turns.lingering("timed_out_run")
    assert await turns.ended("timed_out_run") == "failed"
    await turns.gone(life)
    assert await turns.states("timed_out_run") == {"linger": "skipped"}


async def _clear(turns: Turns, name: str, dag: str, task: str) -> None:
    order = {"dry_run": False, "dag_run_id": turns.runs[name], "task_ids": [task], "only_failed": False}
    await turns.system.api.post(f"dags/{dag}/clearTaskInstances", order)


async def _ended_at(turns: Turns, job: str) -> float:
    """When the centre knew of a job's end, by its record."""
    async with admin(turns.system) as broker:
        record = await RecordStore(broker).get(job)
    assert record is not None
    assert record.outcome is not None
    return record.outcome.ended_at.timestamp()


async def _in_one_try(turns: Turns, dag: str, task: str, *, jobs: int) -> None:
    tries = await turns.system.api.tries(dag, turns.runs[dag], task)
    assert [(each["try_number"], each["state"]) for each in tries] == [(1, "success")]
    assert len(job_folders(turns.system.workers["turns"], dag, turns.runs[dag], task)) == jobs


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
