"""Many trivial tasks at once: what each of them costs the processes of the system."""

from airflow.sdk import dag, task

TASKS = 200


@dag(schedule=None, catchup=False, max_active_tasks=TASKS)
def bench_mapped() -> None:
    """One mapped task."""

    @task(executor="edge", queue="plant")
    def double(number: int) -> int:
        return 2 * number

    double.expand(number=list(range(TASKS)))


bench_mapped()
