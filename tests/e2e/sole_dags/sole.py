"""A DAG that names no executor: it runs wherever the only executor runs it."""

from airflow.sdk import dag, task


@dag(schedule=None, catchup=False)
def sole() -> None:
    """Two tasks in the default queue, the second with what the first left."""

    @task
    def first() -> int:
        """Leaves a number."""
        return 20

    @task
    def second(number: int) -> int:
        """Takes it."""
        return number + 1

    second(first())  # type: ignore[arg-type]  # an XComArg stands for the value that it will have


sole()
