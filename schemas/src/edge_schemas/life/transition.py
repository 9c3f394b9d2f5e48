"""`transition()`: the only way a job's record changes.

Relay, bridge and keeper read a record through the stream leader, compute its successor here and swap it in only if
nothing else was faster; the loser of a race reads again. No clock, no I/O: time comes in with the event.
See docs/reference/job-life.md for the drawing.
"""

from datetime import timedelta

from edge_schemas.life.events import (
    Event,
    Expire,
    Finish,
    GiveUp,
    Redrive,
    Release,
    Start,
    Withdraw,
)
from edge_schemas.life.holder_calls import apply_call, holder_of
from edge_schemas.life.model import (
    Holder,
    JobRecord,
    JobState,
    Outcome,
    Redriven,
    ReleaseNote,
    StopRequest,
    Verdict,
)
from edge_schemas.wire.base import Instant
from edge_schemas.wire.content import Content
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.jobs import JobKind, OnLost

RELEASES_BEFORE_PARKED = 5
MAX_REASON_CHARS = 500
"""Of a release, as the record keeps it; the release itself is in the log."""
WHOLE_REASONS = 8
"""The last releases keep their reasons, older ones the beginning: with a hundred attempts, a record would outgrow what
a message can hold, and could neither be released nor given up any more."""
CUT_REASON_CHARS = 40
MAX_RETURNED_GRANTS = 40
"""More grants of one job than can expire at the same time: a released job stays away for a second or longer."""
FAILED_STATES = frozenset({"failed", "up_for_retry", "removed", "upstream_failed"})
"""Airflow states whose acceptance makes the outcome `failed`; any other accepted state makes it `succeeded`."""


def transition(record: JobRecord | None, event: Event) -> JobRecord:
    """The record after an event; the very same object if there is nothing to change.

    A repeat of an event is not an error. `None` stands for "no such record".

    Raises:
        EdgeError: `job_ended` if there is no record or it is ended, `not_holder` if another worker holds the job,
            `wrong_state` if the job's state does not allow the event, `receipt_expired` for the start of a grant
            that was released. Nothing changes.
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
            return apply_call(record, event)


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
        newer = {"incarnation": event.incarnation, "key_hash": event.key_hash}
        return record.model_copy(update={"holder": record.holder.model_copy(update=newer)})
    if record.parked is not None:
        raise EdgeError(ErrorCode.WRONG_STATE, "the job is parked")
    if record.was_released(event.grant):
        raise EdgeError(ErrorCode.RECEIPT_EXPIRED, "this grant was released")
    holder = Holder(
        worker=event.worker,
        incarnation=event.incarnation,
        started_at=event.at,
        grant=event.grant,
        key_hash=event.key_hash,
    )
    running = {"state": JobState.RUNNING, "holder": holder, "attempt": record.attempt + 1, "not_before": None}
    return record.model_copy(update=running)


def _finish(record: JobRecord, event: Finish) -> JobRecord:
    if record.state is JobState.ENDED:
        if record.holder is not None and record.holder.worker == event.worker and record.outcome is not None:
            if record.outcome.verdict is Verdict.LOST:
                raise EdgeError(ErrorCode.JOB_ENDED, "the job was given up before this outcome arrived")
            return record
        raise EdgeError(ErrorCode.JOB_ENDED)
    if record.was_released(event.grant):
        return record  # a repeat: the job waits again, or was even started again
    holder = holder_of(record, event.worker)
    if event.release and record.state is JobState.RUNNING and may_wait_again(record):
        return _lose_holder(record, holder, event.reason or "released", event.at, grant=event.grant)
    verdict, reason = _verdict(record, event)
    result = None if record.terms is None else event.result
    return _ended(record, verdict, reason, event.at, exit_code=event.exit_code, result=result)


def may_have_run(record: JobRecord) -> bool:
    """Whether user code may have begun. Only a task reports this; any other job counts as begun at its start."""
    return record.user_code is not None or record.accepted_state is not None or record.kind is not JobKind.TASK


def may_wait_again(record: JobRecord) -> bool:
    """Whether a started job that loses its worker is granted again."""
    if record.terms is not None:
        return record.terms.on_lost is OnLost.REQUEUE
    return not may_have_run(record)


def _verdict(record: JobRecord, event: Finish) -> tuple[Verdict, str | None]:
    """An accepted final state decides; without one a job that was to stop is cancelled and any other has failed.

    A job that is no task has no state in Airflow: how its process ended decides.
    """
    if record.accepted_state is not None:
        return (Verdict.FAILED if record.accepted_state in FAILED_STATES else Verdict.SUCCEEDED), event.reason
    if record.stop is not None:
        return Verdict.CANCELLED, record.stop.reason
    if record.kind is JobKind.TASK:
        return Verdict.FAILED, event.reason or "the task's process ended without a final state"
    if event.exit_code == 0:
        return Verdict.SUCCEEDED, event.reason
    return Verdict.FAILED, event.reason or f"it ended with exit code {event.exit_code}"


def _release(record: JobRecord, event: Release) -> JobRecord:
    if record.state is JobState.ENDED:
        raise EdgeError(ErrorCode.JOB_ENDED)
    if record.parked is not None or record.was_released(event.grant):
        return record
    if record.state is not JobState.WAITING:
        return _release_started(record, event)
    if not event.counted:
        returned = () if event.grant is None else (event.grant,)
        return record.model_copy(
            update={"returned_grants": (*record.returned_grants, *returned)[-MAX_RETURNED_GRANTS:]}
        )
    return _released(record, ReleaseNote(worker=event.worker, reason=event.reason, at=event.at, grant=event.grant))


def _release_started(record: JobRecord, event: Release) -> JobRecord:
    """The consumer of a payload gives it up for now."""
    if event.worker is None or record.kind is not JobKind.PAYLOAD:
        raise EdgeError(ErrorCode.WRONG_STATE, "only a job that was not started can be released")
    holder = holder_of(record, event.worker)
    if holder.grant is not None and event.grant != holder.grant:
        raise EdgeError(ErrorCode.RECEIPT_EXPIRED, "the worker has started the job with another grant")
    if record.state is JobState.STOPPING:
        raise EdgeError(ErrorCode.WRONG_STATE, "the job is to stop: finish it")
    not_before = None if event.delay_s is None else event.at + timedelta(seconds=event.delay_s)
    again = _lose_holder(record, holder, event.reason, event.at, grant=event.grant)
    return again.model_copy(update={"not_before": not_before})


def _lose_holder(record: JobRecord, holder: Holder, reason: str, at: Instant, *, grant: str | None = None) -> JobRecord:
    """The job waits again, or is parked if it may not."""
    attempt = record.attempt if may_have_run(record) else None
    note = ReleaseNote(worker=holder.worker, reason=reason, at=at, grant=grant or holder.grant, attempt=attempt)
    return _released(_waiting_again(record, at), note)


def _released(record: JobRecord, note: ReleaseNote) -> JobRecord:
    note = note.model_copy(update={"reason": note.reason[:MAX_REASON_CHARS]})
    older = tuple(
        one.model_copy(update={"reason": one.reason[:CUT_REASON_CHARS]}) for one in record.releases[: 1 - WHOLE_REASONS]
    )
    releases = (*older, *record.releases[1 - WHOLE_REASONS :], note)
    return record.model_copy(update={"releases": releases, "parked": _parked_because(record, releases)})


def _parked_because(record: JobRecord, releases: tuple[ReleaseNote, ...]) -> str | None:
    last = releases[-1]
    if last.attempt is not None:
        most = 1 if record.terms is None else record.terms.max_attempts
        return f"attempt {last.attempt} of {most} ended: {last.reason}" if last.attempt >= most else None
    unstarted = sum(note.attempt is None for note in releases)
    return f"released {unstarted} times, last: {last.reason}" if unstarted >= RELEASES_BEFORE_PARKED else None


def _redrive(record: JobRecord, event: Redrive) -> JobRecord:
    if record.state is JobState.ENDED:
        raise EdgeError(ErrorCode.JOB_ENDED)
    if record.state is not JobState.WAITING:
        raise EdgeError(ErrorCode.WRONG_STATE, "the job has been started")
    if record.parked is None:
        return record
    redriven = Redriven(reason=event.reason, parked=record.parked, at=event.at)
    again = {"parked": None, "releases": (), "attempt": 0, "not_before": None, "waiting_again_since": event.at}
    return record.model_copy(update={**again, "redriven": redriven})


def _withdraw(record: JobRecord, event: Withdraw) -> JobRecord:
    """End a waiting job, ask a running one to stop; after a final state was sent or accepted, do nothing."""
    if record.state is JobState.ENDED or record.state is JobState.STOPPING:
        return record
    if record.state is JobState.WAITING:
        return _ended(record, Verdict.CANCELLED, event.reason, event.at)
    if record.finishing or record.accepted_state is not None:
        return record
    wish = StopRequest(reason=event.reason, at=event.at)
    return record.model_copy(update={"state": JobState.STOPPING, "stop": wish})


def _expire(record: JobRecord, event: Expire) -> JobRecord:
    """End a job that still waits; a job that was started in time does not change."""
    if record.state is not JobState.WAITING:
        return record
    return _ended(record, Verdict.FAILED, event.reason, event.at)


def _give_up(record: JobRecord, event: GiveUp) -> JobRecord:
    if record.state is JobState.ENDED:
        return record
    if record.holder is None:
        raise EdgeError(ErrorCode.WRONG_STATE, "the job has no holder")
    if event.holder is not None and not _is_same_holder(record.holder, event.holder):
        return record
    if event.lacking_incarnation is not None and record.holder.incarnation >= event.lacking_incarnation:
        return record
    if record.accepted_state is not None:
        verdict = Verdict.FAILED if record.accepted_state in FAILED_STATES else Verdict.SUCCEEDED
        return _ended(record, verdict, event.reason, event.at)
    if record.state is JobState.STOPPING:
        return _ended(record, Verdict.CANCELLED, event.reason, event.at)
    if may_wait_again(record):
        return _lose_holder(record, record.holder, event.reason, event.at)
    return _ended(record, Verdict.LOST, event.reason, event.at)


def _is_same_holder(one: Holder, other: Holder) -> bool:
    """A later incarnation of the worker may have taken the job over."""
    return (one.worker, one.started_at) == (other.worker, other.started_at)


def _waiting_again(record: JobRecord, at: Instant) -> JobRecord:
    no_holder = {"holder": None, "finishing": False, "last_write": None, "open_write": None}
    return record.model_copy(update={"state": JobState.WAITING, "waiting_again_since": at, **no_holder})


def _ended(
    record: JobRecord,
    verdict: Verdict,
    reason: str | None,
    at: Instant,
    *,
    exit_code: int | None = None,
    result: Content | None = None,
) -> JobRecord:
    outcome = Outcome(
        verdict=verdict,
        reason=reason,
        exit_code=exit_code,
        accepted_state=record.accepted_state,
        result=result,
        ended_at=at,
    )
    return JobRecord(
        id=record.id,
        queue=record.queue,
        team=record.team,
        task=record.task,
        auxiliary=record.auxiliary,
        terms=record.terms,
        attempt=record.attempt,
        offline=record.offline,
        state=JobState.ENDED,
        created_at=record.created_at,
        holder=record.holder,
        user_code=record.user_code,
        outcome=outcome,
    )
