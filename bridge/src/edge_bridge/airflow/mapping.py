"""Maps Airflow's words to those of this project: workload to job, outcome to event. Pure functions."""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from edge_bridge.airflow.dispatch_table import Entry, Report, Verb
from edge_bridge.airflow.queues import Queues
from edge_bridge.airflow.sendable import unsendable_because
from edge_bridge.tracing import traceparent_of
from edge_schemas.life.model import Outcome, Verdict
from edge_schemas.wire.jobs import AuxiliaryJob, AuxiliaryKind, AuxiliaryWork, Job, JobKind, TaskIdentity, TaskWork

if TYPE_CHECKING:
    from airflow.executors.workloads import ExecuteCallback, ExecuteTask, TestConnection

    Workload = ExecuteTask | ExecuteCallback | TestConnection
    """What Airflow's scheduler hands out to an executor."""

WORKLOAD_KEYS = frozenset({"ti", "dag_rel_path", "bundle_info", "log_path", "sentry_integration"})
"""The parts of a workload that are sent to the worker. Not its token: the gate attaches a fresh token to each call."""
CALLBACK_KEYS = frozenset({"type", "callback", "dag_rel_path", "bundle_info", "log_path"})
CONNECTION_TEST_KEYS = frozenset({"type", "connection_test_id", "connection_id", "timeout"})

NO_DISPATCH_ID = (
    "the task was queued without a dispatch id of its own: name the executor by its alias (or its full module path), "
    "not by its class name"
)
NO_AUXILIARY_QUEUE = {
    AuxiliaryKind.CALLBACK: (
        "edge sites run no callbacks here: set [edge_relay] callback_queue to a queue whose workers should run them, "
        "or name another executor in the deadline's callback"
    ),
    AuxiliaryKind.CONNECTION_TEST: (
        "edge sites test no connections here: set [edge_relay] connection_test_queue to a queue whose workers should "
        "test them, or name a queue or another executor with the test"
    ),
}

ACTIVE_STATES = frozenset({"queued", "running", "restarting"})
"""Task states in which Airflow still wants the current dispatch and waits for an event about it."""
FINISHED_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
"""Task states in which an event changes nothing, but completes the scheduler's log."""


class JobRefused(Exception):
    """The workload can't become a job; the text explains the reason to the DAG's author."""


class TaskLike(Protocol):
    """A task instance: Airflow's DTO or its database row."""

    id: UUID
    dag_id: str
    task_id: str
    run_id: str
    try_number: int
    map_index: int


class KeyedTask(TaskLike, Protocol):
    """A task instance with Airflow's key."""

    @property
    def key(self) -> Hashable:
        """Airflow's own; its content does not matter here."""


@dataclass(frozen=True, slots=True)
class Row:
    """The row of a task instance in Airflow's database, or in the same form that of an auxiliary job.

    Attributes:
        dispatch: A task's `external_executor_id`, an auxiliary job's own id.
    """

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


def auxiliary_of(workload: "ExecuteCallback | TestConnection") -> AuxiliaryJob:
    """Which auxiliary job this is.

    Raises:
        JobRefused: Its id is no UUID, so a repeat could not be recognised.
    """
    kind = AuxiliaryKind.CALLBACK if hasattr(workload, "callback") else AuxiliaryKind.CONNECTION_TEST
    try:
        return AuxiliaryJob(kind=kind, id=str(workload.key))
    except ValidationError:
        raise JobRefused(f"{workload.key} is no UUID, so it can't be sent to an edge site") from None


@dataclass(frozen=True, slots=True)
class JobMaker:
    """Makes jobs of workloads, each with the rules of its queue.

    Attributes:
        auxiliary_queues: The queues of auxiliary jobs that name none; kinds that are refused are missing.
        airflow_version: The version in the centre.
    """

    core_executor: str
    team: str | None
    queues: Queues
    auxiliary_queues: dict[AuxiliaryKind, str]
    airflow_version: str | None = None

    def task(self, workload: "ExecuteTask", now: datetime) -> Job:
        """The job of a task.

        Raises:
            JobRefused: It has no dispatch id, its queue accepts no tasks, NATS can't carry the queue's name, or it is
                no plain data.
        """
        dispatch = getattr(workload.ti, "external_executor_id", None)
        if not is_dispatch_id(dispatch):
            raise JobRefused(NO_DISPATCH_ID)
        plain = _plain(workload, WORKLOAD_KEYS)
        work = TaskWork(
            task=identity_of(workload.ti),
            workload=plain,
            core_executor=self.core_executor,
            airflow_version=self.airflow_version,
        )
        return self._job(str(dispatch), workload.ti.queue, work, now, traceparent_of(workload.ti))

    def auxiliary(self, workload: "ExecuteCallback | TestConnection", now: datetime) -> Job:
        """The job of a callback or a connection test. Its id is the auxiliary job's own: a repeat is recognised by it.

        Raises:
            JobRefused: There is no queue for it, its queue has a name that NATS can't carry, or it is no plain data.
        """
        auxiliary = auxiliary_of(workload)
        queue = getattr(workload, "queue", None) or self.auxiliary_queues.get(auxiliary.kind)
        if not queue:
            raise JobRefused(NO_AUXILIARY_QUEUE[auxiliary.kind])
        plain = _plain(workload, CALLBACK_KEYS if auxiliary.kind is AuxiliaryKind.CALLBACK else CONNECTION_TEST_KEYS)
        work = AuxiliaryWork(auxiliary=auxiliary, workload=plain, core_executor=self.core_executor)
        return self._job(auxiliary.id, queue, work, now)

    def _job(
        self, job: str, queue: str, work: TaskWork | AuxiliaryWork, now: datetime, traceparent: str | None = None
    ) -> Job:
        rules = self.queues.rules(queue)
        kind = JobKind.TASK if isinstance(work, TaskWork) else JobKind(work.auxiliary.kind.value)
        if not rules.accepts(kind):
            accepted = ", ".join(rules.kinds or ()) or "nothing"
            raise JobRefused(
                f"queue {queue!r} accepts no job of kind {kind}, only {accepted}: an operator has set that"
            )
        try:
            made = Job(
                id=job,
                queue=queue,
                team=self.team,
                work=work,
                offline=rules.offline,
                published_at=now,
                traceparent=traceparent,
            )
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)
            )
            raise JobRefused(f"it can't be sent to an edge site: {problems}") from None
        if (why := unsendable_because(made)) is not None:
            raise JobRefused(f"{why}, so it can't be sent to an edge site")
        return made


def _plain(workload: "Workload", keys: frozenset[str]) -> dict[str, object]:
    """The parts of a workload that are sent to the worker, as JSON values."""
    try:
        plain: dict[str, object] = workload.model_dump(mode="json", include=set(keys))
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise JobRefused(
            f"it holds a value that JSON can't represent, so it can't be sent to an edge site: {error}"
        ) from None
    return plain


def is_dispatch_id(value: object) -> bool:
    """Whether this is an id as Airflow makes it for each dispatch: a UUID in its usual form."""
    if not isinstance(value, str):
        return False
    try:
        return str(UUID(value)) == value
    except ValueError:
        return False


def report_of(key: Hashable, job: str, outcome: Outcome) -> Report:
    """The report about an ended job that Airflow still waits for.

    A cancelled job is reported as failed: its end was not requested by Airflow but, for instance, by an operator. If
    Airflow requested the end, it no longer waits: see `due_report`.
    """
    succeeded = outcome.verdict is Verdict.SUCCEEDED
    reason = f": {outcome.reason}" if outcome.reason else ""
    return Report(key, job, Verb.SUCCEED if succeeded else Verb.FAIL, f"edge job {job} {outcome.verdict}{reason}")


def is_awaited(entry: Entry, row: Row | None) -> bool:
    """Whether Airflow still waits for an event about exactly this dispatch."""
    return row is not None and row.state in ACTIVE_STATES and row.dispatch == entry.dispatch


def due_report(entry: Entry, row: Row | None) -> Report:
    """The report that is due now that a dispatch is over.

    No event if the task has continued (scheduled again, deferred, waiting for its next turn): when the scheduler
    handles the event, it could apply it to the next dispatch and fail that. A task that was cleared while it ran starts
    again after a success; after a failure it would first wait for the delay of a retry. Airflow applies any event to an
    auxiliary job, whatever its state: the job gets one event only.
    """
    assert entry.report is not None  # noqa: S101  # set by the caller
    if is_awaited(entry, row):
        restarting = row is not None and row.state == "restarting"
        return replace(entry.report, verb=Verb.SUCCEED) if restarting else entry.report
    if entry.auxiliary is None and row is not None and row.state in FINISHED_STATES:
        return entry.report
    return Report(entry.key, entry.job, Verb.FORGET)
