"""Answers relays why a task instance has no job."""

from datetime import UTC, datetime
from functools import partial

from edge_bridge.keeper.dispatch import DatabaseUnavailable, Dispatches
from edge_bridge.keeper.why.airflow_causes import airflow_causes
from edge_bridge.keeper.why.read_task import read_task
from edge_schemas.why.task_query import TaskInstanceFindings, TaskQuery
from edge_schemas.wire.errors import EdgeError, ErrorCode


class TaskAnswers:
    """Reads Airflow's database, in a thread and within the keeper's limit of queries."""

    def __init__(self, dispatches: Dispatches) -> None:
        self._dispatches = dispatches

    async def findings(self, query: TaskQuery) -> TaskInstanceFindings:
        """What Airflow's database shows.

        Raises:
            EdgeError: `not_found`: there is no such task instance; `gate_unavailable`: the database does not answer.
        """
        try:
            task = await self._dispatches.query(partial(read_task, query))
        except DatabaseUnavailable as error:
            text = f"Airflow's database does not answer the keeper: {error}"
            raise EdgeError(ErrorCode.GATE_UNAVAILABLE, text) from None
        if task is None:
            text = "Airflow has no such task instance: check DAG, run, task and map index"
            raise EdgeError(ErrorCode.NOT_FOUND, text)
        return TaskInstanceFindings(
            queue=task.queue,
            state=task.state,
            try_number=task.try_number,
            dispatch=task.dispatch,
            causes=airflow_causes(task, datetime.now(UTC)),
        )
