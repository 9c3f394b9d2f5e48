"""The record of a job, and `transition()`: the only way a record changes.

Relay, bridge and keeper read a record through the stream leader, compute its successor here and swap it in only if
nobody else was faster; whoever loses reads again. No clock, no I/O: time comes in with the event.
See docs/reference/job-life.md for the picture.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import assert_never

from edge_schemas.wire.base import Instant, Outbound
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.ids import JobId, QueueName, RequestId, TeamName, WorkerName
from edge_schemas.wire.jobs import AuxiliaryJob, Job, TaskIdentity
from edge_schemas.wire.offline import OfflinePolicy

RELEASES_BEFORE_PARKED = 5
ENDED_RECORD_LIFE = timedelta(days=7)
"""So that whatever a late worker sends still finds a record that refuses it; no record refuses as well."""

FAILED_STATES = frozenset({"failed", "up_for_retry", "removed", "upstream_failed"})
"""Airflow states whose acceptance makes the outcome `failed`; any other accepted state makes it `succeeded`."""


class JobState(StrEnum):
    """Where a job is in its life."""

    WAITING = "waiting"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


class Verdict(StrEnum):
    """How a job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


class Outcome(Outbound):
    """How a job ended and why; kept for `ENDED_RECORD_LIFE`."""

    verdict: Verdict
    reason: str | None = None
    exit_code: int | None = None
    accepted_state: str | None = None
    ended_at: Instant


class Holder(Outbound):
    """The worker that started the job; it alone may finish it, log for it and call the Execution API for it.

    Attributes:
        incarnation: Of the worker's agent that last presented the receipt. A later one that does not have the job any
            more has lost it.
        grant: Which grant it started.
    """

    worker: WorkerName
    incarnation: int
    started_at: Instant
    grant: str | None = None


class UserCode(Outbound):
    """The process that Airflow was told of at `/run`. From here on a retry would repeat user code."""

    hostname: str
    pid: int
    at: Instant


class WriteAnswer(Outbound):
    """The answer of the last write to the Execution API, replayed to a repeat of the same request."""

    request_id: RequestId
    status: int
    body: str


class OpenWrite(Outbound):
    """A write that Airflow answers differently the second time, and that may have been sent."""

    request_id: RequestId
    sent_at: Instant


class StopWish(Outbound):
    """Who wants the job to end, and why."""

    reason: str
    at: Instant


class ReleaseNote(Outbound):
    """A worker gave the job back.

    Attributes:
        grant: Which grant it gave back, so that no repeat of a call counts again, starts the job or ends a later hold.
    """

    worker: WorkerName
    reason: str
    at: Instant
    grant: str | None = None


class JobRecord(Outbound):
    """The truth about one job.

    Attributes:
        task: Which task instance; None for an auxiliary job.
        job: The whole job while it is not ended; dropped then, to keep the bucket small.
        finishing: A terminal state is on its way to Airflow. While set, no heartbeat answer means "stop".
        accepted_state: The terminal state that Airflow accepted. It decides the outcome, whatever the exit status.
        open_write: Begun, and not known to be answered.
        parked: Why the job was put aside in `EDGE_DEAD`; it waits, but is not published until redriven.
        waits_anew_since: When a hold ended before user code ran, or the job was redriven, for the last time.
    """

    id: JobId
    queue: QueueName
    team: TeamName | None = None
    task: TaskIdentity | None = None
    auxiliary: AuxiliaryJob | None = None
    offline: OfflinePolicy = OfflinePolicy()
    state: JobState
    job: Job | None = None
    created_at: Instant
    holder: Holder | None = None
    user_code: UserCode | None = None
    finishing: bool = False
    accepted_state: str | None = None
    last_write: WriteAnswer | None = None
    open_write: OpenWrite | None = None
    stop: StopWish | None = None
    releases: tuple[ReleaseNote, ...] = ()
    parked: str | None = None
    waits_anew_since: Instant | None = None
    outcome: Outcome | None = None

    @property
    def waits_since(self) -> Instant:
        """Since when no worker has taken the job, while it waits."""
        return self.waits_anew_since or self.created_at


@dataclass(frozen=True, slots=True)
class Start:
    """The worker presents its receipt for a `grant`."""

    worker: str
    incarnation: int
    at: Instant
    grant: str | None = None


@dataclass(frozen=True, slots=True)
class ReportUserCode:
    """The gate is about to forward `/run`: user code may run from here on."""

    worker: str
    hostname: str
    pid: int
    at: Instant


@dataclass(frozen=True, slots=True)
class BeginWrite:
    """The gate is about to forward a write that Airflow answers differently the second time."""

    worker: str
    request_id: str
    at: Instant


@dataclass(frozen=True, slots=True)
class BeginFinishing:
    """The gate is about to forward a terminal state."""

    worker: str


@dataclass(frozen=True, slots=True)
class AnswerWrite:
    """Airflow answered a write; `accepted_state` is set if the write was a terminal state and was taken."""

    worker: str
    answer: WriteAnswer
    accepted_state: str | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """The holder reports that the job's processes are gone; `give_back` if the job itself had no part in it.

    Attributes:
        grant: With which the worker last started the job; None if it does not know any more.
    """

    worker: str
    exit_code: int | None
    reason: str | None
    at: Instant
    give_back: bool = False
    grant: str | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """A worker gives a granted job back; `counted` if the job itself may be the cause, once for each `grant`."""

    worker: str
    reason: str
    counted: bool
    at: Instant
    grant: str | None = None


@dataclass(frozen=True, slots=True)
class Redrive:
    """An operator wants a parked job to be published again; of one that waits already, nothing.

    The releases are counted anew. Their history stays in `EDGE_DEAD` until its age limit, or until the job is parked
    again.
    """

    at: Instant


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Airflow no longer wants this dispatch."""

    reason: str
    at: Instant


@dataclass(frozen=True, slots=True)
class Expire:
    """The job has waited for longer than its queue allows."""

    reason: str
    at: Instant


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The holder has been out of contact for longer than is tolerated, or came back without the job.

    Attributes:
        lacked_by: The incarnation that came back without it. Nothing happens if that one or a later one has started it.
        hold: Which hold was judged. Nothing happens if the job was handed out again since; None means any.
    """

    reason: str
    at: Instant
    lacked_by: int | None = None
    hold: Holder | None = None


GateEvent = ReportUserCode | BeginWrite | BeginFinishing | AnswerWrite
"""What the gate notes of the holder's calls."""
Event = Start | GateEvent | Finish | Release | Redrive | Withdraw | Expire | GiveUp


def new_record(job: Job) -> JobRecord:
    """The record of a job that was just dispatched."""
    return JobRecord(
        id=job.id,
        queue=job.queue,
        team=job.team,
        task=job.task,
        auxiliary=job.auxiliary,
        offline=job.offline,
        state=JobState.WAITING,
        job=job,
        created_at=job.published_at,
    )


def transition(record: JobRecord | None, event: Event) -> JobRecord:
    """The record after an event; the very same object if there is nothing to change.

    A repeat of what already happened is not an error. `None` stands for "no such record".

    Raises:
        EdgeError: `job_ended` if there is no record or it is ended, `not_holder` if another worker holds the job,
            `wrong_state` if the job's state does not know the event, `receipt_expired` for the start of a grant
            that was given back. Nothing changes.
    """
    if record is None:
        raise EdgeError(ErrorCode.JOB_ENDED, "there is no such job, or it ended long ago")
    match event:
        case Start():
            return _start(record, event)
        case Finish():
            return _finish(record, event)
        case Release():
            return _release(record, event)
        case Redrive():
            return _redrive(record, event)
        case Withdraw():
            return _withdraw(record, event)
        case Expire():
            return _expire(record, event)
        case GiveUp():
            return _give_up(record, event)
        case _:
            return _called(check_holder(record, event.worker), event)


def _called(record: JobRecord, event: GateEvent) -> JobRecord:
    match event:
        case ReportUserCode():
            return _report_user_code(record, event)
        case BeginWrite():
            return _begin_write(record, event)
        case BeginFinishing():
            return _begin_finishing(record)
        case AnswerWrite():
            return _answer_write(record, event)
        case _:
            assert_never(event)


def check_holder(record: JobRecord | None, worker: str) -> JobRecord:
    """The record, if this worker started the job and it has not ended.

    Raises:
        EdgeError: `job_ended`, `wrong_state` (nobody has started it) or `not_holder`.
    """
    if record is None or record.state is JobState.ENDED:
        raise EdgeError(ErrorCode.JOB_ENDED)
    _holder(record, worker)
    return record


def _holder(record: JobRecord, worker: str) -> Holder:
    if record.holder is None:
        raise EdgeError(ErrorCode.WRONG_STATE, "the job has not been started")
    if record.holder.worker != worker:
        raise EdgeError(ErrorCode.NOT_HOLDER)
    return record.holder


def _start(record: JobRecord, event: Start) -> JobRecord:
    if record.state is JobState.ENDED:
        raise EdgeError(ErrorCode.JOB_ENDED)
    if record.holder is not None:
        if record.holder.worker != event.worker:
            raise EdgeError(ErrorCode.NOT_HOLDER)
        if record.state is JobState.STOPPING:
            raise EdgeError(ErrorCode.WRONG_STATE, "the job is to stop")
        if record.holder.incarnation >= event.incarnation:
            return record
        return record.model_copy(update={"holder": record.holder.model_copy(update={"incarnation": event.incarnation})})
    if record.parked is not None:
        raise EdgeError(ErrorCode.WRONG_STATE, "the job is parked")
    if _was_given_back(record, event.grant):
        raise EdgeError(ErrorCode.RECEIPT_EXPIRED, "this grant was given back")
    holder = Holder(worker=event.worker, incarnation=event.incarnation, started_at=event.at, grant=event.grant)
    return record.model_copy(update={"state": JobState.RUNNING, "holder": holder})


def _report_user_code(record: JobRecord, event: ReportUserCode) -> JobRecord:
    _require_task(record)
    if record.state is JobState.STOPPING:
        raise EdgeError(ErrorCode.WRONG_STATE, "the job is to stop")
    if record.user_code is not None:
        same = (record.user_code.hostname, record.user_code.pid) == (event.hostname, event.pid)
        if not same:
            raise EdgeError(ErrorCode.WRONG_STATE, "user code of this dispatch was already started by another process")
        return record
    seen = UserCode(hostname=event.hostname, pid=event.pid, at=event.at)
    return record.model_copy(update={"user_code": seen})


def _begin_write(record: JobRecord, event: BeginWrite) -> JobRecord:
    if record.open_write is not None and record.open_write.request_id == event.request_id:
        return record
    return record.model_copy(update={"open_write": OpenWrite(request_id=event.request_id, sent_at=event.at)})


def _begin_finishing(record: JobRecord) -> JobRecord:
    _require_task(record)
    if record.accepted_state is not None:
        raise EdgeError(ErrorCode.WRONG_STATE, "a final state was already accepted")
    return record if record.finishing else record.model_copy(update={"finishing": True})


def _require_task(record: JobRecord) -> None:
    if record.auxiliary is not None:
        raise EdgeError(ErrorCode.WRONG_STATE, "this job is no task: it has no state in Airflow")


def _answer_write(record: JobRecord, event: AnswerWrite) -> JobRecord:
    return record.model_copy(
        update={
            "last_write": event.answer,
            "open_write": None,
            "finishing": event.accepted_state is not None,
            "accepted_state": record.accepted_state or event.accepted_state,
        }
    )


def _finish(record: JobRecord, event: Finish) -> JobRecord:
    if record.state is JobState.ENDED:
        if record.holder is not None and record.holder.worker == event.worker and record.outcome is not None:
            if record.outcome.verdict is Verdict.LOST:
                raise EdgeError(ErrorCode.JOB_ENDED, "the job was given up before this outcome arrived")
            return record
        raise EdgeError(ErrorCode.JOB_ENDED)
    if _was_given_back(record, event.grant):
        return record  # a repeat: the job waits since, or was even started again
    holder = _holder(record, event.worker)
    if event.give_back and record.state is JobState.RUNNING and not may_have_run(record):
        why = event.reason or "given back"
        grant = event.grant or holder.grant
        note = ReleaseNote(worker=event.worker, reason=why, at=event.at, grant=grant)
        return _released(_waiting_again(record, event.at), note)
    verdict, reason = _verdict(record, event)
    return _ended(record, verdict, reason, event.at, exit_code=event.exit_code)


def _was_given_back(record: JobRecord, grant: str | None) -> bool:
    return grant is not None and any(note.grant == grant for note in record.releases)


def may_have_run(record: JobRecord) -> bool:
    """Whether user code may have begun; such a job is never handed out again. An auxiliary job does not report it."""
    return record.user_code is not None or record.accepted_state is not None or record.auxiliary is not None


def _verdict(record: JobRecord, event: Finish) -> tuple[Verdict, str | None]:
    """An accepted final state decides; without one a job that was to stop is cancelled and any other has failed.

    An auxiliary job has no state in Airflow: how its process ended decides.
    """
    if record.accepted_state is not None:
        return (Verdict.FAILED if record.accepted_state in FAILED_STATES else Verdict.SUCCEEDED), event.reason
    if record.stop is not None:
        return Verdict.CANCELLED, record.stop.reason
    if record.auxiliary is not None and event.exit_code == 0:
        return Verdict.SUCCEEDED, event.reason
    return Verdict.FAILED, event.reason or "the task's process ended without a final state"


def _release(record: JobRecord, event: Release) -> JobRecord:
    if record.state is JobState.ENDED:
        raise EdgeError(ErrorCode.JOB_ENDED)
    if record.state is not JobState.WAITING:
        raise EdgeError(ErrorCode.WRONG_STATE, "only a job that was not started can be given back")
    if not event.counted or record.parked is not None or _was_given_back(record, event.grant):
        return record
    return _released(record, ReleaseNote(worker=event.worker, reason=event.reason, at=event.at, grant=event.grant))


def _released(record: JobRecord, note: ReleaseNote) -> JobRecord:
    releases = (*record.releases, note)
    parked = (
        f"given back {len(releases)} times, last: {note.reason}" if len(releases) >= RELEASES_BEFORE_PARKED else None
    )
    return record.model_copy(update={"releases": releases, "parked": parked})


def _redrive(record: JobRecord, event: Redrive) -> JobRecord:
    if record.state is JobState.ENDED:
        raise EdgeError(ErrorCode.JOB_ENDED)
    if record.state is not JobState.WAITING:
        raise EdgeError(ErrorCode.WRONG_STATE, "the job has been started")
    if record.parked is None:
        return record
    return record.model_copy(update={"parked": None, "releases": (), "waits_anew_since": event.at})


def _withdraw(record: JobRecord, event: Withdraw) -> JobRecord:
    """End a waiting job, ask a running one to stop. A job whose final state was accepted or is in flight goes on."""
    if record.state is JobState.ENDED or record.state is JobState.STOPPING:
        return record
    if record.state is JobState.WAITING:
        return _ended(record, Verdict.CANCELLED, event.reason, event.at)
    if record.finishing or record.accepted_state is not None:
        return record
    wish = StopWish(reason=event.reason, at=event.at)
    return record.model_copy(update={"state": JobState.STOPPING, "stop": wish})


def _expire(record: JobRecord, event: Expire) -> JobRecord:
    """A job that was taken in time is none of this event's business."""
    if record.state is not JobState.WAITING:
        return record
    return _ended(record, Verdict.FAILED, event.reason, event.at)


def _give_up(record: JobRecord, event: GiveUp) -> JobRecord:
    if record.state is JobState.ENDED:
        return record
    if record.holder is None:
        raise EdgeError(ErrorCode.WRONG_STATE, "nobody holds the job")
    if event.hold is not None and not _is_same_hold(record.holder, event.hold):
        return record
    if event.lacked_by is not None and record.holder.incarnation >= event.lacked_by:
        return record
    if record.accepted_state is not None:
        verdict = Verdict.FAILED if record.accepted_state in FAILED_STATES else Verdict.SUCCEEDED
        return _ended(record, verdict, event.reason, event.at)
    if record.state is JobState.STOPPING:
        return _ended(record, Verdict.CANCELLED, event.reason, event.at)
    if not may_have_run(record):
        return _waiting_again(record, event.at)
    return _ended(record, Verdict.LOST, event.reason, event.at)


def _is_same_hold(one: Holder, other: Holder) -> bool:
    """A later incarnation of the worker may have taken the hold over."""
    return (one.worker, one.started_at) == (other.worker, other.started_at)


def _waiting_again(record: JobRecord, at: Instant) -> JobRecord:
    no_hold = {"holder": None, "finishing": False, "last_write": None, "open_write": None}
    return record.model_copy(update={"state": JobState.WAITING, "waits_anew_since": at, **no_hold})


def _ended(
    record: JobRecord, verdict: Verdict, reason: str | None, at: Instant, *, exit_code: int | None = None
) -> JobRecord:
    outcome = Outcome(
        verdict=verdict, reason=reason, exit_code=exit_code, accepted_state=record.accepted_state, ended_at=at
    )
    return JobRecord(
        id=record.id,
        queue=record.queue,
        team=record.team,
        task=record.task,
        auxiliary=record.auxiliary,
        offline=record.offline,
        state=JobState.ENDED,
        created_at=record.created_at,
        holder=record.holder,
        user_code=record.user_code,
        outcome=outcome,
    )
