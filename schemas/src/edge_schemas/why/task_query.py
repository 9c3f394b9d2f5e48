"""A question about a task instance, and what a keeper finds in Airflow's database."""

from pydantic import Field

from edge_schemas.admin.why import Cause
from edge_schemas.wire.base import Inbound, Outbound
from edge_schemas.wire.ids import JobId

MAX_NAME_CHARS = 250
"""As in Airflow's database."""


class TaskQuery(Inbound):
    """Which task instance; the query of `GET /v1/admin/why`.

    Attributes:
        map_index: -1 for a task that is not mapped.
    """

    dag: str = Field(min_length=1, max_length=MAX_NAME_CHARS)
    run: str = Field(min_length=1, max_length=MAX_NAME_CHARS)
    task: str = Field(min_length=1, max_length=MAX_NAME_CHARS)
    map_index: int = Field(default=-1, ge=-1, le=2**31 - 1)


class TaskInstanceFindings(Outbound):
    """What a keeper found about a task instance.

    Attributes:
        queue: Of the task.
        state: As Airflow's database has it; None before it is scheduled.
        try_number: Of its current try.
        dispatch: The job, if it is queued or runs by an executor of Edge Relay.
        causes: Empty only with a dispatch: the job's record has them. With a dispatch, these are of a job that the
            executor has not published.
    """

    queue: str
    state: str | None = None
    try_number: int = 0
    dispatch: JobId | None = None
    causes: tuple[Cause, ...] = ()
