"""What a job at the worker learns (events) and what is to be done for it (actions). Plain values, no I/O."""

from dataclasses import dataclass
from enum import Enum

from edge_schemas.wire.job_calls import EndReport


@dataclass(frozen=True, slots=True)
class StopWish:
    """Why a job is to end.

    Attributes:
        drop: Nothing is reported of it.
        releases: The job itself has no part in it: if its user code never ran it may run elsewhere.
    """

    reason: str
    drop: bool = False
    releases: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What the folder of a job shows after a restart of the agent or an unexpected error.

    Attributes:
        is_started: The relay has confirmed the start.
        is_launched: A process for the job exists or existed.
        is_finished: The relay has given a final answer to the outcome.
        is_frozen: The processes were, or were about to be, stopped.
        finish: The outcome that was written down.
    """

    receipt: str = ""
    is_started: bool = False
    is_launched: bool = False
    is_finished: bool = False
    is_frozen: bool = False
    final_state: str | None = None
    finish: EndReport | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    """The relay offers the job. A later grant of a job that the worker has only brings a newer receipt.

    Attributes:
        refusal: Why the worker does not take it.
        counts: The job itself is the cause.
    """

    receipt: str
    refusal: str | None = None
    counts: bool = False


@dataclass(frozen=True, slots=True)
class Recovered:
    """The folder was read."""

    facts: Facts


@dataclass(frozen=True, slots=True)
class FolderMade:
    """The job and its receipt are on disk."""


@dataclass(frozen=True, slots=True)
class FolderUnwritable:
    """The folder cannot be made."""

    reason: str


@dataclass(frozen=True, slots=True)
class StartConfirmed:
    """The relay has confirmed the start: this worker is the holder."""


@dataclass(frozen=True, slots=True)
class StartRefused:
    """The relay has refused the start for good."""


@dataclass(frozen=True, slots=True)
class LaunchSucceeded:
    """A process has taken the job: `pid.json` names it."""


@dataclass(frozen=True, slots=True)
class LaunchFailed:
    """No process has taken the job, and none will.

    Attributes:
        releases: Another worker could start it.
        pauses: The next job would fail for the same reason.
    """

    reason: str
    releases: bool = False
    pauses: bool = False


@dataclass(frozen=True, slots=True)
class LaunchRuledOut:
    """The agent has written `pid.json` without a process: no process will take the job."""


@dataclass(frozen=True, slots=True)
class TaskExited:
    """The task's own process has exited. Its supervisor may still wait for processes that keep the output open."""


@dataclass(frozen=True, slots=True)
class ProcessGone:
    """No process of the job is left.

    Attributes:
        exit_code: Of user code, negative for a signal; None if that is not known.
        error: Why there is no regular end, for people.
    """

    exit_code: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class StopWanted:
    """The centre, the gateway or the machine's owner wants the job to end."""

    wish: StopWish


@dataclass(frozen=True, slots=True)
class ContactLost:
    """The worker cannot be sure any more that it holds the job."""

    reason: str


@dataclass(frozen=True, slots=True)
class HolderConfirmed:
    """The centre has said that this worker still holds the job."""


@dataclass(frozen=True, slots=True)
class HolderRefused:
    """The centre has said that this worker must not continue the job."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Thawed:
    """All processes of the job run again."""


@dataclass(frozen=True, slots=True)
class FinalWriteBegun:
    """A final state is on its way to Airflow. A stop waits for the answer, which decides how the task ended."""


@dataclass(frozen=True, slots=True)
class FinalWriteEnded:
    """The answer is there.

    Attributes:
        accepted: The state that Airflow accepted; None if it accepted none.
    """

    accepted: str | None = None


@dataclass(frozen=True, slots=True)
class FinishAnswered:
    """The relay has given a final answer to the outcome: accepted or refused."""


@dataclass(frozen=True, slots=True)
class ReleaseAnswered:
    """The relay has given a final answer to the release.

    Attributes:
        code: With which it was refused; None if it was accepted.
    """

    code: str | None = None


@dataclass(frozen=True, slots=True)
class LogDone:
    """The relay has the log, or wants no more of it."""


@dataclass(frozen=True, slots=True)
class GraceOver:
    """The time of a `Wait` has passed."""


@dataclass(frozen=True, slots=True)
class Archived:
    """The folder was moved to the ended jobs, or could not be moved."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An action has failed with an unexpected error.

    Attributes:
        reason: In words for people.
    """

    reason: str


Event = (
    Granted
    | Recovered
    | FolderMade
    | FolderUnwritable
    | StartConfirmed
    | StartRefused
    | LaunchSucceeded
    | LaunchFailed
    | LaunchRuledOut
    | TaskExited
    | ProcessGone
    | StopWanted
    | ContactLost
    | HolderConfirmed
    | HolderRefused
    | Thawed
    | FinalWriteBegun
    | FinalWriteEnded
    | FinishAnswered
    | ReleaseAnswered
    | LogDone
    | GraceOver
    | Archived
    | Fault
)


class Lane(Enum):
    """Of the actions in one lane at most one is under way; a new one replaces the one before."""

    FREEZE = "freeze"
    ASK = "ask"
    STOP = "stop"
    MAIN = "main"
    LOG = "log"
    TIMER = "timer"


@dataclass(frozen=True, slots=True)
class MakeFolder:
    """Write the job down.

    Attributes:
        is_new: What an earlier tenure of the job has left is put aside first.
    """

    is_new: bool


@dataclass(frozen=True, slots=True)
class Start:
    """Ask the relay to confirm the start."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Have the task host start a process for the job."""


@dataclass(frozen=True, slots=True)
class RuleOut:
    """Write `pid.json` without a process, unless a process has taken the job already."""


@dataclass(frozen=True, slots=True)
class AwaitEnd:
    """Wait until no process of the job is left, and read how it ended."""


@dataclass(frozen=True, slots=True)
class AwaitGone:
    """Wait until no process is left of a job that cannot be followed.

    Attributes:
        kills: End its processes as well.
        thaws: Let its processes run again: they stand still, and a final state was accepted.
    """

    kills: bool
    thaws: bool


@dataclass(frozen=True, slots=True)
class Report:
    """Report the outcome until the relay has given a final answer."""

    finish: EndReport


@dataclass(frozen=True, slots=True)
class Release:
    """Release the job at the relay; `counts` if the job itself is the cause."""

    reason: str
    counts: bool = False


@dataclass(frozen=True, slots=True)
class ReadFolder:
    """Read what is left to do."""


@dataclass(frozen=True, slots=True)
class Archive:
    """Move the folder to the ended jobs."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """Freeze the job's processes and all processes that they start later."""


@dataclass(frozen=True, slots=True)
class Thaw:
    """Let the job's processes run again."""


@dataclass(frozen=True, slots=True)
class AskHolder:
    """Ask the centre whether this worker still holds the job."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End the job's processes: SIGTERM, a grace, SIGKILL."""


@dataclass(frozen=True, slots=True)
class Kill:
    """End the job's processes without a grace."""


@dataclass(frozen=True, slots=True)
class FollowLog:
    """Upload the log until no process is left and the relay has all of it."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Let some time pass."""

    seconds: float


MainActivity = MakeFolder | Start | Launch | RuleOut | AwaitEnd | AwaitGone | Report | Release | ReadFolder | Archive
"""What brings a job to its next stage."""
Activity = MainActivity | Freeze | Thaw | AskHolder | Stop | Kill | FollowLog | Wait
"""What takes time. Most of them end with an event."""


class Note(Enum):
    """What is done at once."""

    FORGET = "forget"
    """The worker forgets the job: polls do not report it, and its slot is free."""
    DROP = "drop"
    """Forget the job without a report."""
    SPARE = "spare"
    """Log that the stop is not needed: the final state was accepted."""
    POLL_SOON = "poll soon"
    """Have a poll report the free slot soon."""
    PAUSE_INTAKE = "pause intake"
    """Take no jobs for a while: once released, this job would be granted again at once."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Do something in a lane, in place of what is under way there."""

    lane: Lane
    activity: Activity


@dataclass(frozen=True, slots=True)
class Cancel:
    """Abandon what is under way in a lane."""

    lane: Lane


Action = Note | Begin | Cancel
