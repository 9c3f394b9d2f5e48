"""Between Airflow's words and ours: workload to job, outcome to event. Pure functions."""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from pydantic import ValidationError

from edge_bridge.ledger import Entry, Report, Verb
from edge_schemas.jobs import Job, TaskIdentity, TaskWork
from edge_schemas.records import Outcome, Verdict

if TYPE_CHECKING:
    from airflow.executors.workloads import ExecuteTask

WORKLOAD_KEYS = frozenset({"ti", "dag_rel_path", "bundle_info", "log_path", "sentry_integration"})
"""What travels of a workload. Its token does not: the gate attaches a fresh one to each call."""

NO_DISPATCH_ID = (
    "the task was queued without a dispatch id of its own: name the executor by its alias (or its full module path), "
    "not by its class name"
)

ACTIVE_STATES = frozenset({"queued", "running", "restarting"})
"""Task states in which Airflow still wants the current dispatch and waits for news of it."""
FINISHED_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
"""Task states in which an event changes nothing, but completes the scheduler's log."""


class JobRefused(Exception):
    """The workload can't become a job; the text tells the DAG's author why."""


class TaskLike(Protocol):
    """A task instance: Airflow's DTO or its database row."""

    id: UUID
    dag_id: str
    task_id: str
    run_id: str
    try_number: int
    map_index: int


@dataclass(frozen=True, slots=True)
class TaskRow:
    """What Airflow's database says of a task instance."""

    state: str | None
    dispatch: str | None


def identity_of(ti: TaskLike) -> TaskIdentity:
    """Which task instance this is."""
    return TaskIdentity(
        ti_id=str(ti.id),
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=ti.run_id,
        try_number=ti.try_number,
        map_index=ti.map_index,
    )


def job_of(workload: "ExecuteTask", *, core_executor: str, team: str | None, now: datetime) -> Job:
    """The job of a workload.

    Raises:
        JobRefused: It has no dispatch id, or its queue has a name that NATS can't carry.
    """
    dispatch = getattr(workload.ti, "external_executor_id", None)
    if not is_dispatch_id(dispatch):
        raise JobRefused(NO_DISPATCH_ID)
    work = TaskWork(
        task=identity_of(workload.ti),
        workload=workload.model_dump(mode="json", include=set(WORKLOAD_KEYS)),
        core_executor=core_executor,
    )
    try:
        return Job(id=str(dispatch), queue=workload.ti.queue, team=team, work=work, published_at=now)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise JobRefused(f"the task can't be sent to an edge site: {problems}") from None


def is_dispatch_id(value: object) -> bool:
    """Whether this is an id as Airflow makes one for each dispatch: a UUID in its usual form."""
    if not isinstance(value, str):
        return False
    try:
        return str(UUID(value)) == value
    except ValueError:
        return False


def report_of(key: Hashable, job: str, outcome: Outcome) -> Report:
    """What Airflow is told of an ended job.

    Cancelled is a success: Airflow itself wanted the end, and after a clear this makes it run the task again.
    """
    failed = outcome.verdict in {Verdict.FAILED, Verdict.LOST}
    reason = f": {outcome.reason}" if outcome.reason else ""
    return Report(key, job, Verb.FAIL if failed else Verb.SUCCEED, f"edge job {job} {outcome.verdict}{reason}")


def is_awaited(entry: Entry, row: TaskRow | None) -> bool:
    """Whether Airflow still waits for news of this very dispatch."""
    return row is not None and row.state in ACTIVE_STATES and row.dispatch == entry.dispatch


def due_report(entry: Entry, row: TaskRow | None) -> Report:
    """What Airflow is told now that a dispatch is over.

    No event where the task has gone on (scheduled anew, deferred, waiting for its next turn): by the time the scheduler
    handles the event it could be taken for one of the next dispatch, and would fail it. A task cleared while it
    ran begins anew at a success; a failure would first cost it the delay of a retry.
    """
    assert entry.report is not None  # noqa: S101  # the caller has set it
    if is_awaited(entry, row) and row is not None and row.state == "restarting":
        return replace(entry.report, verb=Verb.SUCCEED)
    if is_awaited(entry, row) or (row is not None and row.state in FINISHED_STATES):
        return entry.report
    return Report(entry.key, entry.job, Verb.FORGET)
