"""Airflow's own memory of `[core] executor`."""

from typing import cast


def forget_executors() -> None:
    """Airflow reads `[core] executor` once in a process: make it read the setting again."""
    from airflow.executors import executor_loader

    for name, value in vars(executor_loader).items():
        if name.startswith("_") and name.endswith(("_executor_names", "_executors", "_per_team")):
            cast("dict[object, object]", value).clear()
