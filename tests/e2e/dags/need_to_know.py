"""A DAG whose queue has a policy: what its tasks get for what they may use, and for what they may not."""

from collections.abc import Callable
from typing import Any

from airflow.sdk import Asset, Connection, Variable, dag, get_current_context, task


def _tried(use: Callable[[], object]) -> str:
    try:
        return f"got {use()}"
    except Exception as error:  # noqa: BLE001  # its type is what the test compares
        return type(error).__name__


@dag(schedule=None, catchup=False)
def need_to_know() -> None:
    """Two tasks that do not depend on each other."""

    @task(executor="edge", queue="need_to_know")
    def use() -> dict[str, str]:
        """Uses what is allowed and what is not."""
        context: Any = get_current_context()
        ti = context["ti"]
        return {
            "connection": _tried(lambda: Connection.get("erp_main").host),
            "other connection": _tried(lambda: Connection.get("payroll").host),
            "absent connection": _tried(lambda: Connection.get("absent")),
            "variable": _tried(lambda: Variable.get("not_to_know", default="a default value")),
            "set variable": _tried(lambda: Variable.set("not_to_know", "new")),
            "xcom": _tried(
                lambda: ti.xcom_pull(dag_id="elsewhere", task_ids="t", run_id="r", default="a default value")
            ),
        }

    @task(executor="edge", queue="need_to_know", outlets=[Asset("not_to_emit")])
    def emit() -> None:
        """Its event is refused."""

    use()
    emit()


need_to_know()
