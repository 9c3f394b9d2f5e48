"""Tasks at whose calls the api-server fails each time: the test has made the database refuse what they write.

Each task once for the local executor and once for the edge.
"""

from datetime import timedelta
from typing import Any

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, dag, task

EDGE: dict[str, Any] = {"executor": "edge", "queue": "refused"}


class Defers(BaseOperator):
    """Its deferral is refused."""

    def execute(self, context: Any) -> None:
        """Defer."""
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=1)), method_name="resume")

    def resume(self, context: Any, event: Any = None) -> None:
        """Never reached."""


def _tasks(where: str, options: dict[str, Any]) -> None:
    @task(task_id=f"run_refused_{where}", **options)
    def run_refused() -> None:
        """Its start is refused."""

    @task(task_id=f"xcom_refused_{where}", **options)
    def xcom_refused() -> str:
        """Its XCom is refused."""
        return "REFUSE THIS"

    run_refused()
    xcom_refused()
    Defers(task_id=f"deferral_refused_{where}", **options)


@dag(schedule=None, catchup=False)
def refused() -> None:
    """Six tasks that do not depend on each other."""
    _tasks("local", {})
    _tasks("edge", EDGE)


refused()
