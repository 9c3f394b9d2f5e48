"""Tasks at the edge that run until they are told to end, and ask the centre all the while."""

import time

from airflow.sdk import Variable, dag, task


@dag(schedule=None, catchup=False)
def steady() -> None:
    """Four of them at once."""

    @task(executor="edge", queue="plant", retries=0)
    def wait(number: int) -> int:
        """Ends when the variable says so; returns its number."""
        while Variable.get("steady_may_end", default="no") != "yes":
            print(f"{number} continues", flush=True)
            time.sleep(1)
        return number

    wait.expand(number=[1, 2, 3, 4])


steady()
