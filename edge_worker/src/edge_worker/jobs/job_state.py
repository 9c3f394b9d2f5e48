"""A job at the worker: where it stands, and what is under way for a job that stands there.

No I/O, no clock, no event loop. `machine.step` decides how a job moves from one stage to another.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from edge_schemas.wire.job_calls import EndReport
from edge_schemas.wire.worker_report import JobPhase
from edge_worker.jobs.events import (
    Activity,
    Archive,
    AskHolder,
    AwaitEnd,
    AwaitGone,
    FollowLog,
    Freeze,
    Kill,
    Lane,
    Launch,
    MakeFolder,
    ReadFolder,
    Release,
    Report,
    RuleOut,
    Start,
    Stop,
    StopWish,
    Thaw,
    Wait,
)

FAULT_PAUSE_S = 1.0
LONGEST_FAULT_PAUSE_S = 60.0
START_GRACE_S = 2.0
"""How long a start that is under way may take when the worker leaves: it must not overtake the release that follows."""
LOG_FIRST_S = 2.0
"""How long the rest of the log may go ahead of the outcome, so that it is complete when the job has ended."""
DROPPED_LOG_S = 30.0
"""How long the log of a dropped job may still go to the relay: it explains why the task ended."""


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
    """The relay has given its final answer to the outcome; the rest of the log follows."""
    DROPPED = "dropped"
    """Another worker holds it, or it has ended. The end of its log is uploaded if that is soon done."""
    RELEASING = "releasing"
    """Its release is on its way to the relay."""
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
    """The centre has answered, but the job must end: it is killed while frozen."""
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
        has_folder: The folder belongs to this tenure: it is archived in the end.
        is_started: The start was confirmed.
        is_gone: No process of the job is left: its log grows no more.
        is_log_done: See `LogDone`.
        is_relay_done: The relay has given its final answer, or the job is dropped; only the log may follow.
        finish: The outcome.
        release: Why the job is released; empty if it is not.
        release_counts: The job itself is the cause of the release.
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
    is_relay_done: bool = False
    finish: EndReport | None = None
    release: str = ""
    release_counts: bool = False
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
        """The job is to end, and no final state is in flight or accepted."""
        return self.stop is not None and self.final_state is None and self.final_writes == 0

    @property
    def is_frozen(self) -> bool:
        """Nothing of the job may run or be launched."""
        return self.frozen is not Frozen.NO


_FREEZING = {Frozen.NO: None, Frozen.ASKING: Freeze(), Frozen.KEPT: Freeze(), Frozen.THAWING: Thaw()}
_WITH_LOG = frozenset({Stage.LAUNCHING, Stage.RUNNING, Stage.ENDING, Stage.REPORTING, Stage.UPLOADING, Stage.DROPPED})


def under_way(job: LocalJob) -> Mapping[Lane, Activity]:
    """What is being done for a job in this stage."""
    lanes = {
        Lane.FREEZE: _freezing(job),
        Lane.ASK: AskHolder() if _asks(job) else None,
        Lane.STOP: _stop(job) if job.stage is Stage.RUNNING and job.is_stopping else None,
        Lane.MAIN: _main(job),
        Lane.LOG: FollowLog() if job.stage in _WITH_LOG and not job.is_log_done else None,
        Lane.TIMER: _timer(job),
    }
    return {lane: activity for lane, activity in lanes.items() if activity is not None}


def _freezing(job: LocalJob) -> Activity | None:
    if job.stage in {Stage.LAUNCHING, Stage.RUNNING}:
        return _FREEZING[job.frozen]
    waits_for_write = job.final_state is None and job.final_writes > 0
    return Freeze() if job.stage is Stage.UNFOLLOWED and job.is_frozen and waits_for_write else None


def _asks(job: LocalJob) -> bool:
    return job.frozen is Frozen.ASKING and job.stage in {Stage.LAUNCHING, Stage.RUNNING}


def _stop(job: LocalJob) -> Activity:
    """A frozen job is killed without a grace: SIGTERM would let it run. One that is being thawed runs again."""
    return Kill() if job.frozen in {Frozen.ASKING, Frozen.KEPT} else Stop()


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
            return Release(job.release, job.release_counts)
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
    """How the end of the processes is reached.

    A frozen job is killed, because no one asks the centre about it any more, unless its final state was accepted or is
    on its way.
    """
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
