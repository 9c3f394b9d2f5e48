"""What Airflow's database says of a run. Read as a file: the api-server may be away at any time."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from faults.chaos.judge import Try
from faults.chaos.ledger import Instance
from local.system.airflow_api import ENDED

_TRIES = """
    select dag_id, run_id, task_id, map_index, try_number, state, {last} from {table}
    where dag_id = ? and run_id = ?
"""


@dataclass(frozen=True)
class AirflowDatabase:
    """The SQLite file of an Airflow that runs."""

    path: Path

    def tries(self, dag: str, run: str) -> list[Try]:
        """All tries of all task instances, old ones too."""
        rows = [
            row
            for table, last in (("task_instance_history", 0), ("task_instance", 1))
            for row in self._read(_TRIES.format(table=table, last=last), dag, run)
        ]
        return [Try(Instance(*name), number, state, bool(last)) for *name, number, state, last in rows]

    def unfinished(self, dag: str, run: str) -> int:
        """How many task instances have not ended."""
        return sum(each.is_last and each.state not in ENDED for each in self.tries(dag, run))

    def dispatches(self, dag: str, run: str) -> dict[Instance, str]:
        """The job of each task instance that was queued."""
        query = """
            select dag_id, run_id, task_id, map_index, external_executor_id from task_instance
            where dag_id = ? and run_id = ? and external_executor_id is not null
        """
        return {Instance(*name): str(job) for *name, job in self._read(query, dag, run)}

    def run_ended(self, dag: str, run: str) -> float | None:
        """When Airflow ended the run, as seconds since the epoch."""
        ((end,),) = self._read("select end_date from dag_run where dag_id = ? and run_id = ?", dag, run)
        return None if end is None else datetime.fromisoformat(end).replace(tzinfo=UTC).timestamp()

    def _read(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(query, values).fetchall()
