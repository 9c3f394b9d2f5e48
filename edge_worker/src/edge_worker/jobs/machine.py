"""One job at the worker as a pure machine: no I/O, no clock, no event loop.

`step(job, event)` gives the job after an event and the actions that follow. Where a job stands decides what is under
way for it (`under_way`); an event changes where it stands, and the difference is begun or cancelled. The result of what
was cancelled never arrives. docs/reference/job-at-the-worker.md draws the stages.
"""

import signal
from dataclasses import replace

from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.job_calls import EndReport
from edge_schemas.wire.worker_report import JobPhase
from edge_worker.jobs.events import (
    Action,
    Archived,
    Begin,
    Cancel,
    ContactLost,
    Event,
    Facts,
    Fault,
    FinalWriteBegun,
    FinalWriteEnded,
    FinishAnswered,
    FolderMade,
    FolderUnwritable,
    GraceOver,
    Granted,
    HolderConfirmed,
    HolderRefused,
    Lane,
    LaunchFailed,
    LaunchRuledOut,
    LaunchSucceeded,
    LogDone,
    Note,
    ProcessGone,
    Recovered,
    ReleaseAnswered,
    StartConfirmed,
    StartRefused,
    StopWanted,
    StopWish,
    TaskExited,
    Thawed,
)
from edge_worker.jobs.job_state import Frozen, LocalJob, Stage, under_way

MAX_FAULTS = 6
"""After so many unexpected errors a job is no longer followed, but reported as failed once nothing of it runs."""
DROPPING_CODES = frozenset({ErrorCode.NOT_HOLDER, ErrorCode.JOB_ENDED})
"""Refusals after which nothing is reported of a job."""

Step = tuple[LocalJob, tuple[Note, ...]]


def step(job: LocalJob, event: Event) -> tuple[LocalJob, tuple[Action, ...]]:
    """The job after an event, and what is to be done. An event that comes too late changes nothing."""
    after, notes = _after(job, event)
    if _is_spared(after) and not _is_spared(job):
        notes = (*notes, Note.SPARE)
    was, wanted = under_way(job), under_way(after)
    # After an unexpected error nothing is known to be under way any more.
    again = wanted.keys() if isinstance(event, Fault) else ()
    lanes = [lane for lane in Lane if was.get(lane) != wanted.get(lane) or lane in again]
    changes = (Begin(lane, wanted[lane]) if lane in wanted else Cancel(lane) for lane in lanes)
    return after, (*notes, *changes)


def _is_spared(job: LocalJob) -> bool:
    return job.stage is Stage.RUNNING and job.stop is not None and job.final_state is not None


def _after(job: LocalJob, event: Event) -> Step:
    """What may come at any time, and what ends an activity."""
    match event:
        case Granted():
            return _granted(job, event), ()
        case StopWanted():
            job = replace(job, stop=_merged(job.stop, event.wish))
            return _ending(job) if job.stage is Stage.ENDING else (job, ())
        case ContactLost():
            return _contact_lost(job, event), ()
        case FinalWriteBegun():
            return replace(job, final_writes=job.final_writes + 1), ()
        case FinalWriteEnded():
            return _final_write_ended(job, event)
        case LogDone():
            return _log_done(replace(job, is_log_done=True))
        case Fault() if job.stage is not Stage.OVER:
            return replace(job, stage=Stage.FAULTED, faults=job.faults + 1, fault=event.reason), ()
        case HolderConfirmed() | HolderRefused() | Thawed():
            return _answered(job, event), ()
        case _:
            return _towards_launch(job, event)


def _towards_launch(job: LocalJob, event: Event) -> Step:
    """From the grant to a process, or to the end of a job that never gets one."""
    match job.stage, event:
        case (Stage.NEW | Stage.RECOVERING, Recovered()):
            return _recovered(job, event.facts)
        case (Stage.GRANTED, FolderMade()):
            return replace(job, stage=Stage.STARTING, has_folder=True), ()
        case (Stage.GRANTED, FolderUnwritable()):
            # No job can be recovered from a folder that may be there, or the folder belongs to another tenure.
            job = replace(job, stage=Stage.RELEASING, release=event.reason, has_folder=False)
            return job, (Note.PAUSE_INTAKE, Note.FORGET)
        case (Stage.STARTING, StartConfirmed()):
            return replace(job, stage=Stage.LAUNCHING, is_started=True), ()
        case (Stage.STARTING, StartRefused()):
            return _closed(replace(job, is_relay_done=True)), (Note.FORGET,)
        case (Stage.STARTING, GraceOver()) if job.stop is not None:
            return replace(job, stage=Stage.RELEASING, release=job.stop.reason), ()
        case (Stage.LAUNCHING, LaunchSucceeded()):
            return replace(job, stage=Stage.RUNNING), ()
        case (Stage.LAUNCHING, LaunchFailed()):
            job, notes = _gone(job, EndReport(reason=_short(f"not launched: {event.reason}"), release=event.releases))
            return job, ((Note.PAUSE_INTAKE, *notes) if event.pauses else notes)
        case (Stage.LAUNCHING, LaunchRuledOut()) if job.stop is not None:
            reason = f"stopped before it was launched: {job.stop.reason}"
            return _gone(job, EndReport(reason=_short(reason), release=job.stop.releases))
        case _:
            return _towards_end(job, event)


def _towards_end(job: LocalJob, event: Event) -> Step:
    """From the end of the processes, or of the attempt to get one, until nothing is left to do."""
    match job.stage, event:
        case (Stage.RUNNING, TaskExited() | ProcessGone()):
            return _ended(job, event)
        case (Stage.UNFOLLOWED, ProcessGone()):
            finish = job.finish or EndReport(reason=_short(job.fault))
            return replace(job, stage=Stage.REPORTING, is_gone=True, finish=finish), ()
        case (Stage.ENDING, GraceOver()):
            return replace(job, stage=Stage.REPORTING), ()
        case (Stage.REPORTING, FinishAnswered()):
            return _uploading(replace(job, is_relay_done=True)), (Note.FORGET,)
        case (Stage.DROPPED, GraceOver()):
            return _closed(job), ()
        case (Stage.RELEASING, ReleaseAnswered()) if event.code == ErrorCode.WRONG_STATE and job.has_folder:
            # The start has come through although no answer has: the worker holds the job.
            finish = EndReport(reason=_short(job.release), release=True)
            return replace(job, stage=Stage.REPORTING, finish=finish, is_log_done=True), ()
        case (Stage.RELEASING, ReleaseAnswered()):
            return _closed(replace(job, is_relay_done=True)), (Note.FORGET,)
        case (Stage.FAULTED, GraceOver()):
            return _after_pause(job)
        case (Stage.ARCHIVING, Archived()):
            return replace(job, stage=Stage.OVER), ()
        case _:
            return job, ()


def _granted(job: LocalJob, event: Granted) -> LocalJob:
    job = replace(job, receipt=event.receipt)
    if job.stage is not Stage.NEW:
        return job
    if event.refusal is not None:
        return replace(job, stage=Stage.RELEASING, release=event.refusal, release_counts=event.counts)
    return replace(job, stage=Stage.GRANTED)


def _recovered(job: LocalJob, facts: Facts) -> Step:
    """The next stage, from the folder and from memory."""
    if job.stage is Stage.NEW:
        job = replace(job, receipt=facts.receipt, has_folder=True)
    if job.release and not job.is_relay_done:
        return replace(job, stage=Stage.RELEASING), ()
    if not job.has_folder:
        return replace(job, stage=Stage.GRANTED), ()
    if job.is_relay_done or facts.is_finished:
        return _relay_done(replace(job, is_gone=True, is_relay_done=True)), (Note.FORGET,)
    job = replace(job, final_state=job.final_state or facts.final_state)
    # The disk may have been too full for an outcome that is known in memory.
    if (finish := facts.finish or job.finish) is not None:
        return _gone(job, finish)
    if facts.is_frozen or job.is_frozen:
        because = job.frozen_because or "an earlier run of the agent has frozen it"
        frozen = Frozen.ASKING if job.final_state is None else Frozen.THAWING
        job = replace(job, frozen=frozen, frozen_because=because)
    if facts.is_launched:
        return replace(job, stage=Stage.RUNNING, is_started=True), ()
    if facts.is_started or job.is_started:
        return replace(job, stage=Stage.LAUNCHING, is_started=True), ()
    # Whether the start came through is not known; asking again is harmless and shows it.
    return replace(job, stage=Stage.GRANTED), ()


def _merged(stop: StopWish | None, wish: StopWish) -> StopWish:
    if stop is None:
        return wish
    return replace(stop, drop=True) if wish.drop else stop


def _contact_lost(job: LocalJob, event: ContactLost) -> LocalJob:
    """Processes that still run after an accepted final state cannot change the outcome, so they are not frozen."""
    if job.is_frozen or job.phase is not JobPhase.RUNNING or job.final_state is not None:
        return job
    return replace(job, frozen=Frozen.ASKING, frozen_because=event.reason)


def _answered(job: LocalJob, event: HolderConfirmed | HolderRefused | Thawed) -> LocalJob:
    """How a freeze ends. A job that is to stop is killed while frozen, whatever the centre answers."""
    match event:
        case HolderConfirmed() if job.frozen is Frozen.ASKING:
            return replace(job, frozen=Frozen.THAWING if job.stop is None else Frozen.KEPT)
        case HolderRefused() if job.frozen is Frozen.ASKING:
            reason = f"the centre does not let it continue after a loss of contact: {event.reason}"
            wish = StopWish(reason, drop=event.code in DROPPING_CODES, releases=True)
            return replace(job, frozen=Frozen.KEPT, stop=_merged(job.stop, wish))
        case Thawed() if job.frozen is Frozen.THAWING:
            return replace(job, frozen=Frozen.NO)
        case _:
            return job


def _final_write_ended(job: LocalJob, event: FinalWriteEnded) -> Step:
    job = replace(job, final_writes=job.final_writes - 1)
    if event.accepted is not None:
        # Only the holder's is accepted, so what is frozen may continue.
        frozen = Frozen.THAWING if job.is_frozen else Frozen.NO
        # The outcome was noted before the answer: a job that did its work is not released.
        finish = job.finish and job.finish.model_copy(update={"release": False})
        job = replace(job, final_state=event.accepted, frozen=frozen, finish=finish)
    return _ending(job) if job.stage is Stage.ENDING else (job, ())


def _log_done(job: LocalJob) -> Step:
    match job.stage:
        case Stage.ENDING:
            return _ending(job)
        case Stage.UPLOADING | Stage.DROPPED:
            return _closed(job), ()
        case _:
            return job, ()


def _after_pause(job: LocalJob) -> Step:
    """How a job continues after an unexpected error. After too many, nothing that may fail again is done."""
    if job.faults < MAX_FAULTS:
        return replace(job, stage=Stage.RECOVERING), ()
    job = replace(job, is_log_done=True)
    if job.is_relay_done:
        return _closed(job), ()
    if job.has_folder:
        return replace(job, stage=Stage.UNFOLLOWED), ()
    return replace(job, stage=Stage.RELEASING, release=job.release or job.fault), ()


def _gone(job: LocalJob, finish: EndReport) -> Step:
    after, notes = _ending(replace(job, stage=Stage.ENDING, is_gone=True, frozen=Frozen.NO, finish=finish))
    return after, (Note.POLL_SOON, *notes)


def _ending(job: LocalJob) -> Step:
    """Waits for a final write, whose answer decides the outcome; without a link none could be delivered either."""
    if job.final_writes:
        return job, ()
    if job.stop is not None and job.stop.drop:
        return _relay_done(replace(job, is_relay_done=True)), (Note.DROP,)
    return (replace(job, stage=Stage.REPORTING) if job.is_log_done else job), ()


def _relay_done(job: LocalJob) -> LocalJob:
    """The relay has given its final answer, or the job is dropped; only its log is left."""
    if job.is_log_done or job.stop is None or not job.stop.drop:
        return _uploading(job)
    return replace(job, stage=Stage.DROPPED)


def _uploading(job: LocalJob) -> LocalJob:
    return _closed(job) if job.is_log_done else replace(job, stage=Stage.UPLOADING)


def _closed(job: LocalJob) -> LocalJob:
    return replace(job, stage=Stage.ARCHIVING if job.has_folder else Stage.OVER)


def _ended(job: LocalJob, event: TaskExited | ProcessGone) -> Step:
    """The slot is free when the task is over; the end of all processes leads on."""
    if isinstance(event, ProcessGone):
        return _gone(job, _finish(job, event))
    return replace(job, is_exited=True), () if job.is_exited else (Note.POLL_SOON,)


def _finish(job: LocalJob, gone: ProcessGone) -> EndReport:
    """What to report of a job whose processes are gone."""
    reason = gone.error or _exit_reason(gone.exit_code)
    is_lost = gone.exit_code is None and gone.error is not None
    stop = job.stop if job.final_state is None else None
    if stop is not None:
        reason = f"{stop.reason}; {reason}" if reason else stop.reason
    release = is_lost or (stop is not None and stop.releases)
    return EndReport(exit_code=gone.exit_code, reason=_short(reason) if reason else None, release=release)


def _exit_reason(exit_code: int | None) -> str | None:
    if not exit_code:
        return None
    if exit_code > 0:
        return f"the process ended with status {exit_code}"
    try:
        return f"the process was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"the process was ended by signal {-exit_code}"


def _short(text: str) -> str:
    """As much as the wire takes; user code may have named something that is no valid text."""
    return text.encode(errors="replace").decode()[:1000]
