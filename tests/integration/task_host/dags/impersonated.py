"""Tasks that run as another user than the worker."""
# ruff: noqa: T201 (what they print is the point)

import getpass
import importlib
import time

import pendulum
from airflow.sdk import DAG, BaseOperator, Variable, task

USER = "er-etl"


class Stay(BaseOperator):
    """Ends at SIGTERM by its `on_kill`, as an operator does that stops something of its own."""

    told = False

    def execute(self, context: object) -> None:
        print("staying", flush=True)
        while not self.told:
            time.sleep(0.05)

    def on_kill(self) -> None:
        print("told to stop", flush=True)
        self.told = True


with DAG("impersonated", schedule=None, start_date=pendulum.datetime(2026, 1, 1)):

    @task(run_as_user=USER)
    def who_am_i() -> list[str]:
        bundle = importlib.import_module("only_of_the_bundle")
        return [getpass.getuser(), bundle.NAME, Variable.get("flag")]

    who_am_i()
    Stay(task_id="stay", run_as_user=USER)
