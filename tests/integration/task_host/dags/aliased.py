"""A DAG that names an executor as the centre calls it."""

import pendulum
from airflow.sdk import DAG, task

with DAG("aliased", schedule=None, start_date=pendulum.datetime(2026, 1, 1)):

    @task(executor="relay")
    def named_executor() -> None:
        print("named")  # noqa: T201

    named_executor()
