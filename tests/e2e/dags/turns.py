"""DAGs for Airflow's own turns at the edge: what Airflow or a user does to a task besides starting it once.

Tasks write down themselves what becomes of them, in the file that the run's `conf` names: `faults.chaos.ledger`.
"""

import json
import os
import signal
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, PokeReturnValue, chain, dag, get_current_context, setup, task, teardown
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

EDGE = {"executor": "edge", "queue": "turns"}
BULK = 5_000_000
EVENTS = ("success", "retry", "failure")


def ledger(context: Any) -> Path:
    """The file that the run's `conf` names."""
    return Path(context["dag_run"].conf["ledger"])


def note(event: str, context: Any = None, **more: Any) -> None:
    """Add a line to the ledger. A callback has to hand in the context that it was given."""
    context = context or get_current_context()
    ti = context["ti"]
    who = {"dag": ti.dag_id, "run": ti.run_id, "task": ti.task_id, "map_index": ti.map_index, "try": ti.try_number}
    append(ledger(context), {**who, "event": event, **more})


def append(path: Path, line: dict[str, Any]) -> None:
    """Add who wrote it and when, and write it at once."""
    with path.open("ab", buffering=0) as file:
        file.write(json.dumps({"pid": os.getpid(), "time": time.time(), **line}).encode() + b"\n")


def noted(event: str) -> int:
    """How often this task instance has noted an event, in all its tries."""
    context = get_current_context()
    ti, path = context["ti"], ledger(context)
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    mine = [line for line in lines if (line["run"], line["task"]) == (ti.run_id, ti.task_id)]
    return sum(line["event"] == event for line in mine)


def linger() -> None:
    """Until somebody ends it, a child with it; in a later life at once."""
    child = subprocess.Popen(["sleep", "600"])
    try:
        note("begin", child=child.pid)
        if noted("begin") == 1:
            time.sleep(600)
    finally:
        child.kill()
    note("end")


SAID = {f"on_{event}_callback": lambda context, event=event: note(event, context) for event in EVENTS}


class Deferring(BaseOperator):
    """Leaves its slot for a second."""

    def execute(self, context: Any) -> None:
        """Before."""
        note("begin")
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=1)), method_name="resume", kwargs={"kept": "this"})

    def resume(self, context: Any, event: Any, kept: str) -> str:
        """After."""
        note("end")
        return f"{kept} of {event}" if event else kept


@dag(schedule=None, catchup=False, default_args=EDGE)
def deferring() -> None:
    """A task that the triggerer resumes."""
    Deferring(task_id="wait")


@dag(schedule=None, catchup=False, default_args=EDGE)
def rescheduled() -> None:
    """A sensor that leaves between its pokes."""

    @task.sensor(mode="reschedule", poke_interval=1, timeout=60)
    def poke() -> PokeReturnValue:
        """Satisfied at its third poke."""
        note("begin")
        return PokeReturnValue(is_done=noted("begin") == 3, xcom_value="seen")

    poke()


@dag(schedule=None, catchup=False, default_args=EDGE)
def killed() -> None:
    """The kernel kills the first try."""

    @task(retries=1, retry_delay=timedelta(seconds=1))
    def die() -> None:
        """As the OOM killer does."""
        note("begin")
        if noted("begin") == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        note("end")

    die()


@dag(schedule=None, catchup=False, default_args=EDGE)
def lingering() -> None:
    """A task that only somebody else ends, and one after it."""

    @task
    def after() -> None:
        """Once the other is done."""
        note("begin")

    task(linger)() >> after()


@dag(schedule=None, catchup=False, default_args=EDGE, dagrun_timeout=timedelta(seconds=20))
def timed_out_run() -> None:
    """A run that takes too long."""
    task(linger)()


@dag(schedule=None, catchup=False, default_args=EDGE)
def timed_out_task() -> None:
    """A task that takes too long."""
    task(execution_timeout=timedelta(seconds=2), on_failure_callback=lambda context: note("failure", context))(linger)()


@dag(schedule=None, catchup=False, default_args=EDGE)
def trigger_rules() -> None:
    """Tasks behind one that fails for one of its inputs."""

    @task
    def halve(number: int) -> int:
        """Only even ones."""
        if number % 2:
            msg = "an odd number, on purpose"
            raise ValueError(msg)
        return number // 2

    @task
    def step() -> None:
        """Nothing."""
        note("begin")

    halved = halve.expand(number=[2, 3, 4])
    for rule in ("all_done", "one_failed", "all_success", "all_failed"):
        halved >> step.override(task_id=rule, trigger_rule=rule)()


@dag(schedule=None, catchup=False, default_args=EDGE)
def rigged() -> None:
    """Work that fails between a setup and its teardown."""

    @setup
    def rig() -> str:
        """Before."""
        note("begin")
        return "rig"

    @task
    def work() -> None:
        """Fails."""
        note("begin")
        msg = "on purpose"
        raise RuntimeError(msg)

    @teardown
    def unrig(rig: Any) -> str:
        """After, whatever became of the work."""
        note("begin")
        return f"no {rig}"

    made = rig()
    chain(made, work(), unrig(made))


@dag(schedule=None, catchup=False, default_args=EDGE)
def calling() -> None:
    """A run that waits for another."""
    TriggerDagRunOperator(
        task_id="call",
        trigger_dag_id="called",
        conf={"ledger": "{{ dag_run.conf['ledger'] }}"},
        wait_for_completion=True,
        poke_interval=1,
    )


@dag(schedule=None, catchup=False, default_args=EDGE)
def called() -> None:
    """The other run."""

    @task
    def answer() -> None:
        """Takes a moment."""
        time.sleep(1)
        note("end")

    answer()


@dag(schedule=None, catchup=False, default_args=EDGE)
def bulky() -> None:
    """An XCom of some megabytes, both ways."""

    @task
    def heap() -> str:
        """Leaves it."""
        return "x" * BULK

    @task
    def weigh(found: Any) -> int:
        """Takes it."""
        return len(found)

    weigh(heap())


@dag(schedule=None, catchup=False, default_args={**EDGE, **SAID})
def calling_back() -> None:
    """Callbacks of tasks run where the task ran."""

    @task
    def succeed() -> None:
        """Well."""
        note("end")

    @task(retries=1, retry_delay=timedelta(0))
    def fail() -> None:
        """Twice."""
        note("raise")
        msg = "on purpose"
        raise RuntimeError(msg)

    succeed()
    fail()


@dag(schedule=None, catchup=False, default_args=EDGE)
def unhurried() -> None:
    """Waits for a worker that has not been enrolled yet."""

    @task(executor="edge", queue="later")
    def once() -> None:
        """At last."""
        note("begin")
        note("end")

    once()


def too_late(context: Any) -> None:
    """A deadline's callback."""
    run = context["dag_run"]
    who = {"dag": run["dag_id"], "run": run["dag_run_id"], "task": "", "map_index": -1, "try": 0}
    append(Path(run["conf"]["ledger"]), {**who, "event": "late"})


@dag(
    schedule=None,
    catchup=False,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(seconds=1),
        callback=SyncCallback(too_late, executor="edge"),
    ),
)
def overdue() -> None:
    """A run that is not done in time."""

    @task(executor="edge", queue="nobody")
    def never() -> None:
        """Nobody takes it."""

    never()


@dag(schedule=None, catchup=False, default_args={"executor": "edge", "queue": "steady"})
def steady() -> None:
    """Tasks of different lengths, so that one is at each step of its life whenever a part is restarted."""

    @task
    def lengths() -> list[int]:
        """As the run was told."""
        conf = get_current_context()["dag_run"].conf
        return list(conf["seconds"]) if conf else []

    @task
    def work(seconds: int) -> int:
        """Not to be done twice."""
        note("begin")
        time.sleep(seconds)
        note("end")
        return seconds

    work.expand(seconds=lengths())


deferring()
rescheduled()
killed()
lingering()
timed_out_run()
timed_out_task()
trigger_rules()
rigged()
calling()
called()
bulky()
calling_back()
unhurried()
overdue()
steady()
