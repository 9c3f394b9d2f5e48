"""One job at the worker as a pure machine: no I/O, no clock, no event loop.

`step(job, event)` gives the job after an event and the actions that follow. Where a job stands decides what is under
way for it (`under_way`); an event changes where it stands, and the difference is begun or cancelled. The result of what
was cancelled never arrives. docs/reference/job-at-the-worker.md draws the stages.
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.job_calls import FinishRequest
from edge_schemas.wire.worker_report import JobPhase
from edge_worker.jobs.events import (
    Action,
    Activity,
    Archive,
    Archived,
    AskHolder,
    AwaitEnd,
    AwaitGone,
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
    FollowLog,
    GraceOver,
    Granted,
    HolderConfirmed,
    HolderRefused,
    HoldStill,
    Kill,
    Lane,
    Launch,
    LaunchFailed,
    LaunchRuledOut,
    LaunchSucceeded,
    LogDone,
    MakeFolder,
    Note,
    ProcessGone,
    ReadFolder,
    Recovered,
    Release,
    ReleaseAnswered,
    Report,
    RuleOut,
    Start,
    StartConfirmed,
    StartRefused,
    Stop,
    StopWanted,
    StopWish,
    Thaw,
    Thawed,
    Wait,
)

FAULT_PAUSE_S = 1.0
LONGEST_FAULT_PAUSE_S = 60.0
MAX_FAULTS = 6
"""After so many unexpected errors a job is no longer followed, but reported as failed once nothing of it runs."""
START_GRACE_S = 2.0
"""How long a start that is under way may take when the worker leaves: it must not overtake the release that follows."""
LOG_FIRST_S = 2.0
"""How long the rest of the log may go ahead of the outcome, so that it is complete when the job has ended."""
DROPPED_LOG_S = 30.0
"""How long the log of a dropped job may still go to the relay: it explains why the task ended."""

DROPPING_CODES = frozenset({ErrorCode.NOT_HOLDER, ErrorCode.JOB_ENDED})
"""Refusals after which nothing is reported of a job."""


class Stage(Enum):
    """Where a job stands."""

    NEW = "new"
    """Nothing is known of it but its id."""
    GRANTED = "granted"
    """It is being written down."""
    STARTING = "starting"
    """The relay was asked to confirm the start."""
    LAUNCHING = "launching"
    """The start is confirmed; no process has taken the job yet."""
    RUNNING = "running"
    """A process has taken it."""
    ENDING = "ending"
    """No process is left, or ever will be. A final write is waited for, then the log, for a while."""
    REPORTING = "reporting"
    """The outcome is on its way to the relay."""
    UPLOADING = "uploading"
    """The outcome is settled; the rest of the log follows."""
    DROPPED = "dropped"
    """Another worker holds it, or it has ended. The end of its log is uploaded if that is soon done."""
    RELEASING = "releasing"
    """It is being given back."""
    FAULTED = "faulted"
    """After an unexpected error nothing is done for a while."""
    RECOVERING = "recovering"
    """Its folder is being read, to find what is left to do."""
    UNFOLLOWED = "unfollowed"
    """There were too many errors; only its end is waited for."""
    ARCHIVING = "archiving"
    """Its folder is being put aside."""
    OVER = "over"


class Frozen(Enum):
    """Whether a job's processes stand still, and why."""

    NO = "no"
    ASKING = "asking"
    """Until the centre has answered whether this worker holds the job."""
    KEPT = "kept"
    """It has, but the job is to end: it is killed as it stands."""
    THAWING = "thawing"
    """They are being woken."""


@dataclass(frozen=True, slots=True)
class LocalJob:
    """A job at this worker.

    Attributes:
        receipt: Of the latest grant; a message that was delivered again brings a newer one.
        stop: Set once the job is to end. The first reason stands; a later `drop` is added to it.
        frozen_because: Why the job was frozen the last time, for people.
        final_writes: Final states on their way to Airflow.
        final_state: The state that Airflow accepted from the task. The job is not killed after that.
        has_folder: The folder is this hold's own: it is archived in the end.
        is_started: The start was confirmed.
        is_gone: No process of the job is left: its log grows no more.
        is_log_done: See `LogDone`.
        is_settled: The worker is done with the job at the relay; only the log may follow.
        finish: The outcome.
        release: Why the job is given back; empty if it is not.
        faults: Unexpected errors so far.
        fault: The last one, for people.
    """

    stage: Stage = Stage.NEW
    receipt: str = ""
    stop: StopWish | None = None
    frozen: Frozen = Frozen.NO
    frozen_because: str = ""
    final_writes: int = 0
    final_state: str | None = None
    has_folder: bool = False
    is_started: bool = False
    is_gone: bool = False
    is_log_done: bool = False
    is_settled: bool = False
    finish: FinishRequest | None = None
    release: str = ""
    faults: int = 0
    fault: str = ""

    @property
    def phase(self) -> JobPhase:
        """What a poll reports of the job."""
        if self.is_gone:
            return JobPhase.FINISHING
        return JobPhase.RUNNING if self.is_started else JobPhase.GRANTED

    @property
    def is_stopping(self) -> bool:
        """The job is to end, and nothing speaks against ending it now."""
        return self.stop is not None and self.final_state is None and self.final_writes == 0

    @property
    def is_frozen(self) -> bool:
        """Nothing of the job may run or be launched."""
        return self.frozen is not Frozen.NO


Step = tuple[LocalJob, tuple[Note, ...]]
_STILL = {Frozen.NO: None, Frozen.ASKING: HoldStill(), Frozen.KEPT: HoldStill(), Frozen.THAWING: Thaw()}
_WITH_LOG = frozenset({Stage.LAUNCHING, Stage.RUNNING, Stage.ENDING, Stage.REPORTING, Stage.UPLOADING, Stage.DROPPED})


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


def under_way(job: LocalJob) -> Mapping[Lane, Activity]:
    """What is being done for a job that stands here."""
    lanes = {
        Lane.STILL: _still(job),
        Lane.ASK: AskHolder() if _asks(job) else None,
        Lane.STOP: _stop(job) if job.stage is Stage.RUNNING and job.is_stopping else None,
        Lane.MAIN: _main(job),
        Lane.LOG: FollowLog() if job.stage in _WITH_LOG and not job.is_log_done else None,
        Lane.TIMER: _timer(job),
    }
    return {lane: activity for lane, activity in lanes.items() if activity is not None}


def _still(job: LocalJob) -> Activity | None:
    if job.stage in {Stage.LAUNCHING, Stage.RUNNING}:
        return _STILL[job.frozen]
    waits_for_write = job.final_state is None and job.final_writes > 0
    return HoldStill() if job.stage is Stage.UNFOLLOWED and job.is_frozen and waits_for_write else None


def _asks(job: LocalJob) -> bool:
    return job.frozen is Frozen.ASKING and job.stage in {Stage.LAUNCHING, Stage.RUNNING}


def _stop(job: LocalJob) -> Activity:
    """What is frozen must not run on for a grace."""
    return Kill() if job.is_frozen else Stop()


def _main(job: LocalJob) -> Activity | None:
    match job.stage:
        case Stage.GRANTED:
            return MakeFolder(is_new=not job.has_folder)
        case Stage.STARTING:
            return Start()
        case Stage.LAUNCHING:
            return _launch(job)
        case Stage.RUNNING:
            return AwaitEnd()
        case Stage.REPORTING if job.finish is not None:
            return Report(job.finish)
        case Stage.RELEASING:
            return Release(job.release)
        case Stage.RECOVERING:
            return ReadFolder()
        case Stage.UNFOLLOWED:
            return _await_gone(job)
        case Stage.ARCHIVING:
            return Archive()
        case _:
            return None


def _launch(job: LocalJob) -> Activity | None:
    if job.stop is not None:
        return RuleOut()
    return None if job.is_frozen else Launch()


def _await_gone(job: LocalJob) -> Activity:
    """What is frozen is killed, for nothing asks for it, unless its final state was accepted or is on its way."""
    is_decided = job.final_state is not None
    kills = not is_decided and job.final_writes == 0 and (job.is_frozen or job.stop is not None)
    return AwaitGone(kills=kills, thaws=job.is_frozen and is_decided)


def _timer(job: LocalJob) -> Activity | None:
    if job.stage is Stage.STARTING and job.stop is not None:
        return Wait(START_GRACE_S)
    if job.stage is Stage.ENDING and job.final_writes == 0:
        return Wait(LOG_FIRST_S)
    if job.stage is Stage.FAULTED:
        return Wait(min(FAULT_PAUSE_S * 2.0 ** (job.faults - 1), LONGEST_FAULT_PAUSE_S))
    return Wait(DROPPED_LOG_S) if job.stage is Stage.DROPPED else None


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
            # What is there is no folder to recover a job from, or is another hold's.
            job = replace(job, stage=Stage.RELEASING, release=event.reason, has_folder=False)
            return job, (Note.PAUSE_INTAKE, Note.FORGET)
        case (Stage.STARTING, StartConfirmed()):
            return replace(job, stage=Stage.LAUNCHING, is_started=True), ()
        case (Stage.STARTING, StartRefused()):
            return _closed(replace(job, is_settled=True)), (Note.FORGET,)
        case (Stage.STARTING, GraceOver()) if job.stop is not None:
            return replace(job, stage=Stage.RELEASING, release=job.stop.reason), ()
        case (Stage.LAUNCHING, LaunchSucceeded()):
            return replace(job, stage=Stage.RUNNING), ()
        case (Stage.LAUNCHING, LaunchFailed()):
            return _gone(job, FinishRequest(reason=_short(f"not launched: {event.reason}"), release=event.releases))
        case (Stage.LAUNCHING, LaunchRuledOut()) if job.stop is not None:
            reason = f"stopped before it was launched: {job.stop.reason}"
            return _gone(job, FinishRequest(reason=_short(reason), release=job.stop.releases))
        case _:
            return _towards_end(job, event)


def _towards_end(job: LocalJob, event: Event) -> Step:
    """From the end of the processes, or of the attempt to get one, until nothing is left to do."""
    match job.stage, event:
        case (Stage.RUNNING, ProcessGone()):
            return _gone(job, _finish(job, event))
        case (Stage.UNFOLLOWED, ProcessGone()):
            finish = FinishRequest(reason=_short(job.fault))
            return replace(job, stage=Stage.REPORTING, is_gone=True, finish=finish), ()
        case (Stage.ENDING, GraceOver()):
            return replace(job, stage=Stage.REPORTING), ()
        case (Stage.REPORTING, FinishAnswered()):
            return _uploading(replace(job, is_settled=True)), (Note.FORGET,)
        case (Stage.DROPPED, GraceOver()):
            return _closed(job), ()
        case (Stage.RELEASING, ReleaseAnswered()) if event.code == ErrorCode.WRONG_STATE and job.has_folder:
            # The start has come through although no answer has: the worker holds the job.
            finish = FinishRequest(reason=_short(job.release), release=True)
            return replace(job, stage=Stage.REPORTING, finish=finish, is_log_done=True), ()
        case (Stage.RELEASING, ReleaseAnswered()):
            return _closed(replace(job, is_settled=True)), (Note.FORGET,)
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
        return replace(job, stage=Stage.RELEASING, release=event.refusal)
    return replace(job, stage=Stage.GRANTED)


def _recovered(job: LocalJob, facts: Facts) -> Step:
    """What is left to do, by the folder and by what is known besides."""
    if job.stage is Stage.NEW:
        job = replace(job, receipt=facts.receipt, has_folder=True)
    if job.release and not job.is_settled:
        return replace(job, stage=Stage.RELEASING), ()
    if not job.has_folder:
        return replace(job, stage=Stage.GRANTED), ()
    if job.is_settled or facts.is_finished:
        return _resettled(replace(job, is_gone=True, is_settled=True)), ()
    job = replace(job, final_state=job.final_state or facts.final_state)
    if facts.finish is not None:
        return _gone(job, facts.finish)
    if facts.is_frozen or job.is_frozen:
        because = job.frozen_because or "an earlier run of the agent has frozen it"
        frozen = Frozen.ASKING if job.final_state is None else Frozen.THAWING
        job = replace(job, frozen=frozen, frozen_because=because)
    if facts.is_launched:
        return replace(job, stage=Stage.RUNNING, is_started=True), ()
    if facts.is_started:
        return replace(job, stage=Stage.LAUNCHING, is_started=True), ()
    # Whether the start came through is not known; asking again is harmless and shows it.
    return replace(job, stage=Stage.GRANTED), ()


def _merged(stop: StopWish | None, wish: StopWish) -> StopWish:
    if stop is None:
        return wish
    return replace(stop, drop=True) if wish.drop else stop


def _contact_lost(job: LocalJob, event: ContactLost) -> LocalJob:
    """Nothing is decided any more by what runs on after an accepted final state."""
    if job.is_frozen or job.phase is not JobPhase.RUNNING or job.final_state is not None:
        return job
    return replace(job, frozen=Frozen.ASKING, frozen_because=event.reason)


def _answered(job: LocalJob, event: HolderConfirmed | HolderRefused | Thawed) -> LocalJob:
    """How a freeze ends. A job that is to stop is killed as it stands, whatever the centre answers."""
    match event:
        case HolderConfirmed() if job.frozen is Frozen.ASKING:
            return replace(job, frozen=Frozen.THAWING if job.stop is None else Frozen.KEPT)
        case HolderRefused() if job.frozen is Frozen.ASKING:
            reason = f"the centre does not let it go on after a loss of contact: {event.reason}"
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
        job = replace(job, final_state=event.accepted, frozen=frozen)
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
    if job.is_settled:
        return _closed(job), ()
    if job.has_folder:
        return replace(job, stage=Stage.UNFOLLOWED), ()
    return replace(job, stage=Stage.RELEASING, release=job.release or job.fault), ()


def _gone(job: LocalJob, finish: FinishRequest) -> Step:
    after, notes = _ending(replace(job, stage=Stage.ENDING, is_gone=True, frozen=Frozen.NO, finish=finish))
    return after, (Note.POLL_SOON, *notes)


def _ending(job: LocalJob) -> Step:
    """Waits for a final write, whose answer decides the outcome; without a link none could be delivered either."""
    if job.final_writes:
        return job, ()
    if job.stop is not None and job.stop.drop:
        return _resettled(replace(job, is_settled=True)), (Note.DROP,)
    return (replace(job, stage=Stage.REPORTING) if job.is_log_done else job), ()


def _resettled(job: LocalJob) -> LocalJob:
    """The job is settled; what is left is its log."""
    if job.is_log_done or job.stop is None or not job.stop.drop:
        return _uploading(job)
    return replace(job, stage=Stage.DROPPED)


def _uploading(job: LocalJob) -> LocalJob:
    return _closed(job) if job.is_log_done else replace(job, stage=Stage.UPLOADING)


def _closed(job: LocalJob) -> LocalJob:
    return replace(job, stage=Stage.ARCHIVING if job.has_folder else Stage.OVER)


def _finish(job: LocalJob, gone: ProcessGone) -> FinishRequest:
    """What to report of a job whose processes are gone."""
    reason = gone.error or _exit_reason(gone.exit_code)
    is_lost = gone.exit_code is None and gone.error is not None
    stop = job.stop if job.final_state is None else None
    if stop is not None:
        reason = f"{stop.reason}; {reason}" if reason else stop.reason
    release = is_lost or (stop is not None and stop.releases)
    return FinishRequest(exit_code=gone.exit_code, reason=_short(reason) if reason else None, release=release)


def _exit_reason(exit_code: int | None) -> str | None:
    if not exit_code:
        return None
    if exit_code > 0:
        return f"the task's process ended with status {exit_code}"
    try:
        return f"the task's process was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"the task's process was ended by signal {-exit_code}"


def _short(text: str) -> str:
    """As much as the wire takes; user code may have named something that is no valid text."""
    return text.encode(errors="replace").decode()[:1000]
