"""A job, as it is published, kept in its record and granted to a worker."""

from typing import Any

from pydantic import Field

from edge_schemas.base import Instant, Outbound
from edge_schemas.ids import JobId, QueueName, TaskInstanceId, TeamName


class TaskIdentity(Outbound):
    """Which task instance of Airflow a job runs. It does not name the dispatch: one task instance may have several."""

    ti_id: TaskInstanceId
    dag_id: str
    task_id: str
    run_id: str
    try_number: int = Field(ge=0)
    map_index: int = -1


class TaskWork(Outbound):
    """What the task host needs to run an Airflow task.

    Attributes:
        workload: Airflow's `ExecuteTask` as JSON, without its token.
        core_executor: The centre's `[core] executor`; DAGs that name an alias load only if the worker knows it.
    """

    task: TaskIdentity
    workload: dict[str, Any]
    core_executor: str


class Job(Outbound):
    """One dispatch of one unit of work. It holds no token and no secret."""

    id: JobId
    queue: QueueName
    team: TeamName | None = None
    work: TaskWork
    published_at: Instant
