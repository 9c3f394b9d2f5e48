"""Calls that are odd or large. The same function runs at the edge and at the centre; the test compares what it saw."""

from collections.abc import Callable
from typing import Any

from airflow.sdk import BaseHook, Variable, chain, dag, get_current_context, task

KEYS = (
    *("/data/a.csv", "s3://bucket//key/", "C:\\data\\a.csv", "100%", "%2e%2e", "a/../b", "~a;b?c#d e"),
    *("a\u0085b\tc", "鍵" * 500),
)
"""`tests/property/test_execution_paths.py` tries any others with Airflow's routes."""
STATIONS = [f"station_{n:03d}.collect_measurements_of_the_hour" for n in range(400)]
LARGE = 20 << 20


def outcome(call: Callable[[], Any]) -> Any:
    """The result, or the kind of failure."""
    try:
        result = call()
    except Exception as error:  # noqa: BLE001  # whatever it is, it must be the same at the edge and at the centre
        return type(error).__name__
    return result if isinstance(result, str | int | None) else type(result).__name__


def attempts(key: str) -> list[Callable[[], Any]]:
    """What is done with a key, as an XCom, a variable, a state of the task and a connection."""
    context = get_current_context()
    ti, store = context["ti"], context["task_state_store"]
    return [
        lambda: ti.xcom_pull(task_ids="nobody", key=key),
        lambda: ti.xcom_push(key, f"an XCom {key}"),
        lambda: ti.xcom_pull(task_ids=ti.task_id, key=key),
        lambda: Variable.get(key, default="nothing"),
        lambda: Variable.set(key, f"a variable {key}"),
        lambda: Variable.get(key),
        lambda: Variable.delete(key),
        lambda: Variable.get(key, default="nothing"),
        lambda: store.get(key),
        lambda: store.set(key, f"a state {key}"),
        lambda: store.get(key),
        lambda: store.delete(key),
        lambda: BaseHook.get_connection(key),
    ]


def observe() -> dict[str, list[Any]]:
    """What becomes of each key, and of a long query."""
    ti: Any = get_current_context()["ti"]
    seen = {key: [outcome(attempt) for attempt in attempts(key)] for key in KEYS}
    seen["a long query"] = [outcome(lambda: ti.get_ti_count(dag_id="wide", task_ids=STATIONS))]
    return seen


@dag(schedule=None, catchup=False)
def wide() -> None:
    """One after the other: both use the same variables."""

    @task(multiple_outputs=False, executor="edge", queue="plant")
    def at_edge() -> dict[str, list[Any]]:
        """See `observe`."""
        return observe()

    @task(multiple_outputs=False)
    def at_centre() -> dict[str, list[Any]]:
        """See `observe`."""
        return observe()

    @task(show_return_value_in_logs=False, executor="edge", queue="plant")
    def push() -> str:
        """A large XCom."""
        return "x" * LARGE

    @task(executor="edge", queue="plant")
    def pull(value: Any) -> int:
        """The size that arrives."""
        return len(value)

    chain(at_edge(), at_centre())
    pull(push())


wide()
