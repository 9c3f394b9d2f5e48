"""Trivial tasks one after another: each tells when its user code began."""

import time

from airflow.sdk import chain, dag, task

TASKS = 20


@dag(schedule=None, catchup=False)
def bench() -> None:
    """A chain, so that each task meets an idle worker."""

    @task(executor="edge", queue="plant")
    def now() -> float:
        return time.time()

    chain(*(now.override(task_id=f"t{n}")() for n in range(TASKS)))


bench()
