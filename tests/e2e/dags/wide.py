"""Calls that are odd or large. The same function runs at the edge and at the centre; the test compares what it saw."""

from collections.abc import Callable
from typing import Any

from airflow.sdk import BaseHook, Variable, chain, dag, get_current_context, task

EDGE = {"executor": "edge", "queue": "plant"}
KEYS = (
    *("/data/a.csv", "s3://bucket/key", "a//b", "dir/", "C:\\data\\a.csv", "100%", "%2e%2e", "a/../b", "~tilde", "a;b"),
    *("a?b", "a#b", "a b", "a\u0085b", "a\tb", "鍵" * 500),
)
STATIONS = [f"station_{n:03d}.collect_measurements_of_the_hour" for n in range(400)]
LARGE = 20 << 20


def outcome(call: Callable[[], Any]) -> Any:
    """The result, or the kind of failure."""
    try:
        result = call()
    except Exception as error:  # noqa: BLE001  # whatever it is, it must be the same at the edge and at the centre
        return type(error).__name__
    return result if isinstance(result, str | int | None) else type(result).__name__


def observe() -> dict[str, list[Any]]:
    """What becomes of each key, as an XCom, a variable, a state of the task and a connection; and of a long query."""
    context = get_current_context()
    ti, store = context["ti"], context["task_state_store"]
    seen: dict[str, list[Any]] = {}
    for key in KEYS:
        calls: list[Callable[[], Any]] = [
            lambda key=key: ti.xcom_pull(task_ids="nobody", key=key),
            lambda key=key: ti.xcom_push(key, f"an XCom {key}"),
            lambda key=key: ti.xcom_pull(task_ids=ti.task_id, key=key),
            lambda key=key: Variable.get(key, default="nothing"),
            lambda key=key: Variable.set(key, f"a variable {key}"),
            lambda key=key: Variable.get(key),
            lambda key=key: Variable.delete(key),
            lambda key=key: Variable.get(key, default="nothing"),
            lambda key=key: store.get(key),
            lambda key=key: store.set(key, f"a state {key}"),
            lambda key=key: store.get(key),
            lambda key=key: store.delete(key),
            lambda key=key: BaseHook.get_connection(key),
        ]
        seen[key] = [outcome(call) for call in calls]
    seen["a long query"] = [outcome(lambda: ti.get_ti_count(dag_id="wide", task_ids=STATIONS))]
    return seen


@dag(schedule=None, catchup=False)
def wide() -> None:
    """One after the other: both use the same variables."""

    @task(multiple_outputs=False, **EDGE)
    def at_edge() -> dict[str, list[Any]]:
        """See `observe`."""
        return observe()

    @task(multiple_outputs=False)
    def at_centre() -> dict[str, list[Any]]:
        """See `observe`."""
        return observe()

    @task(show_return_value_in_logs=False, **EDGE)
    def push() -> str:
        """A large XCom."""
        return "x" * LARGE

    @task(**EDGE)
    def pull(value: str) -> int:
        """The size that arrives."""
        return len(value)

    chain(at_edge(), at_centre())
    pull(push())


wide()
