"""A DAG whose tasks make each kind of write that user code of Airflow makes, and write down when they begin."""

import json
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import Asset, BaseOperator, PokeReturnValue, Variable, chain, dag, get_current_context, task

EDGE = {"executor": "edge", "queue": "plant", "retries": 0}


def note(event: str, context: Any = None) -> None:
    """Add a line to the ledger that the run's `conf` names."""
    context = context or get_current_context()
    ti = context["ti"]
    who = {"dag": ti.dag_id, "run": ti.run_id, "task": ti.task_id, "map_index": ti.map_index, "try": ti.try_number}
    line = {"pid": os.getpid(), "time": time.time(), **who, "event": event}
    with Path(context["dag_run"].conf["ledger"]).open("ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")


class Deferring(BaseOperator):
    """Waits in the triggerer."""

    def execute(self, context: Any) -> None:
        """Before."""
        note("begin", context)
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=1)), method_name="resume")

    def resume(self, context: Any, event: Any) -> str:
        """After."""
        note("resume", context)
        return str(event is not None)


@dag(schedule=None, catchup=False, default_args=EDGE)
def repeats() -> None:
    """All of them."""

    @task(multiple_outputs=True)
    def outputs() -> dict[str, Any]:
        """Several XComs."""
        note("begin")
        return {"a": 1, "b": ["ü", 2.5, None]}

    @task
    def numbers() -> list[int]:
        """An XCom that tasks are mapped over."""
        note("begin")
        return [1, 2, 3]

    @task
    def square(number: int) -> int:
        """XComs of mapped tasks."""
        note("begin")
        return number * number

    @task
    def variables() -> str:
        """Set, read and deleted."""
        note("begin")
        name = "repeats " + str(get_current_context()["run_id"])
        Variable.set(name, "v")
        found = str(Variable.get(name))
        Variable.delete(name)
        return found

    @task(outlets=[Asset("repeats", uri="x://repeats/")])
    def asset() -> None:
        """An event."""
        note("begin")

    @task.short_circuit
    def stop_here() -> bool:
        """Skips what follows."""
        note("begin")
        return False

    @task
    def skipped() -> None:
        """Does not run."""
        note("begin")

    @task.sensor(mode="reschedule", poke_interval=1, timeout=600)
    def poke() -> PokeReturnValue:
        """Leaves once."""
        note("begin")
        run = get_current_context()["dag_run"]
        assert run.conf is not None
        mine = f'"run": "{run.run_id}", "task": "poke"'
        return PokeReturnValue(is_done=Path(run.conf["ledger"]).read_text().count(mine) > 1, xcom_value="seen")

    @task(retries=1, retry_delay=timedelta(0))
    def flaky() -> None:
        """Fails once."""
        note("begin")
        if get_current_context()["ti"].try_number == 1:
            msg = "on purpose"
            raise RuntimeError(msg)

    def call(name: str, **options: Any) -> TriggerDagRunOperator:
        return TriggerDagRunOperator(
            task_id=name,
            trigger_dag_id="repeated",
            trigger_run_id="of-{{ run_id }}",
            conf={"ledger": "{{ dag_run.conf['ledger'] }}"},
            wait_for_completion=True,
            poke_interval=1,
            **options,
        )

    outputs()
    square.expand(number=numbers())
    variables()
    asset()
    stop_here() >> skipped()
    Deferring(task_id="defer")
    poke()
    flaky()
    chain(call("trigger"), call("clear", reset_dag_run=True))


@dag(schedule=None, catchup=False, default_args=EDGE)
def repeated() -> None:
    """Is triggered, and cleared."""

    @task
    def once() -> None:
        """Begins once each time."""
        note("begin")

    once()


repeats()
repeated()
