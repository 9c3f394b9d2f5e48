"""A job, as it is published, kept in its record and granted to a worker."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from edge_schemas.wire.base import Instant, Outbound
from edge_schemas.wire.ids import JobId, QueueName, TaskInstanceId, TeamName
from edge_schemas.wire.offline import OfflinePolicy


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
        airflow_version: The centre's. A runtime of a newer minor version can't run the task.
    """

    task: TaskIdentity
    workload: dict[str, Any]
    core_executor: str
    airflow_version: str | None = None


class AuxiliaryKind(StrEnum):
    """Work that Airflow sends besides tasks."""

    CALLBACK = "callback"
    CONNECTION_TEST = "connection_test"


class AuxiliaryJob(Outbound):
    """Work that is no task: it has no try, no state of its own in Airflow, and is never run twice.

    Attributes:
        id: Airflow's id of the callback or of the connection test, a UUID.
    """

    kind: AuxiliaryKind
    id: TaskInstanceId


class AuxiliaryWork(Outbound):
    """What the task host needs to run an auxiliary job.

    Attributes:
        workload: Airflow's `ExecuteCallback` or `TestConnection` as JSON, without its token.
        core_executor: As in `TaskWork`.
    """

    auxiliary: AuxiliaryJob
    workload: dict[str, Any]
    core_executor: str


class Job(Outbound):
    """One dispatch of one unit of work. It holds no token and no secret.

    Attributes:
        traceparent: W3C trace context that Airflow gave the work; it is the parent of all spans of the job.
    """

    id: JobId
    queue: QueueName
    team: TeamName | None = None
    work: TaskWork | AuxiliaryWork
    offline: OfflinePolicy = OfflinePolicy()
    published_at: Instant
    traceparent: str | None = None

    @property
    def task(self) -> TaskIdentity | None:
        """The task instance, unless this is an auxiliary job."""
        return self.work.task if isinstance(self.work, TaskWork) else None

    @property
    def auxiliary(self) -> AuxiliaryJob | None:
        """The auxiliary job, unless this is a task."""
        return self.work.auxiliary if isinstance(self.work, AuxiliaryWork) else None
