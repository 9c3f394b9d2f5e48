"""What differs between Airflow's releases in the base class of executors."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from airflow.executors.base_executor import BaseExecutor

    from edge_bridge.airflow.mapping import KeyedTask, Workload


def key_of_task(executor: "BaseExecutor", ti: "KeyedTask") -> Hashable:
    """Airflow's key of a task instance; Airflow 3.4 has a method for it."""
    make = getattr(executor, "get_task_key", None)
    return ti.key if make is None else cast("Hashable", make(ti))


def remove_queued(executor: "BaseExecutor", workload: "Workload") -> None:
    """Remove a workload from the queue of the base class; Airflow 3.4 has one queue for each type."""
    queues = getattr(executor, "executor_queues", None)
    if queues is not None:
        queues[workload.type].pop(workload.key, None)
    elif workload.type == "ExecuteTask":
        executor.queued_tasks.pop(workload.key, None)
    elif workload.type == "ExecuteCallback":
        executor.queued_callbacks.pop(workload.key, None)
    else:
        executor.queued_connection_tests.pop(workload.key, None)
