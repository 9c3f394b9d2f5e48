"""The demo DAG: tasks that exchange data between the centre and an edge site.

A task with `executor="edge"` waits in its queue until a worker that serves this queue starts it.
"""

import time
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Param, dag, get_current_context, task


@dag(schedule=None, catchup=False, params={"who": Param("Ada", type="string")}, tags=["edge-relay"])
def demo() -> None:
    """Bash and Python, XComs in both directions, params, templates, a mapped task, a retry, and a task that prints."""

    @task
    def order() -> dict[str, Any]:
        """At the centre: the order for the edge site."""
        return {"part": "bolt", "count": 20}

    @task(executor="edge", queue="plant")
    def make(wanted: Any) -> list[int]:
        """At the edge: receives the order of the centre."""
        print(f"making {wanted['count']} of {wanted['part']}")
        return list(range(wanted["count"]))

    @task(executor="edge", queue="plant")
    def square(number: int) -> int:
        """At the edge, twenty times."""
        return number * number

    @task
    def total(squares: Any) -> int:
        """At the centre: adds the results from the edge."""
        return sum(squares)

    greet = BashOperator(
        task_id="greet",
        bash_command='echo "Hello {{ params.who }}, this is try {{ ti.try_number }} of {{ ti.task_id }}"',
        executor="edge",
        queue="plant",
    )

    @task(retries=1, retry_delay=timedelta(seconds=1), executor="edge", queue="plant")
    def stumble() -> str:
        """At the edge: the first try fails."""
        attempt = get_current_context()["ti"].try_number
        if attempt == 1:
            msg = "the first try fails on purpose"
            raise RuntimeError(msg)
        return f"succeeded at try {attempt}"

    @task(executor="edge", queue="plant")
    def talk() -> None:
        """At the edge: prints for a few seconds, so that the log can be watched live."""
        for tick in range(12):
            print(f"tick {tick}", flush=True)
            time.sleep(0.5)

    made = make(order())
    total(square.expand(number=made))
    greet >> talk()
    stumble()


demo()
