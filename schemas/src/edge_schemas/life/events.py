"""What can happen to a job after it was published: the events that `transition()` applies to its record.

The table in docs/reference/job-life.md has a row for each; a test compares them.
"""

from dataclasses import dataclass

from edge_schemas.life.model import Holder, WriteAnswer
from edge_schemas.wire.base import Instant
from edge_schemas.wire.content import Content


@dataclass(frozen=True, slots=True)
class Start:
    """The worker presents its receipt for a `grant`.

    Attributes:
        key_hash: See `Holder`.
    """

    worker: str
    incarnation: int
    at: Instant
    grant: str | None = None
    key_hash: str | None = None


@dataclass(frozen=True, slots=True)
class ReportUserCode:
    """The gate is about to forward `/run`: user code may run from here on."""

    worker: str
    hostname: str
    pid: int
    at: Instant


@dataclass(frozen=True, slots=True)
class BeginWrite:
    """The gate is about to forward a write that Airflow answers differently the second time.

    Attributes:
        before: What Airflow holds before the write, where this shows whether the write took effect.
    """

    worker: str
    request_id: str
    at: Instant
    before: str | None = None


@dataclass(frozen=True, slots=True)
class BeginFinishing:
    """The gate is about to forward a final state."""

    worker: str


@dataclass(frozen=True, slots=True)
class AnswerWrite:
    """Airflow answered a write; `accepted_state` is set if the write was a final state that Airflow accepted."""

    worker: str
    answer: WriteAnswer
    accepted_state: str | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """The holder reports that the job's processes have ended; `release` if the job itself did not cause it.

    Attributes:
        grant: With which the worker last started the job; None if it no longer knows.
        result: For the producer; of a job of Airflow it is dropped.
    """

    worker: str
    exit_code: int | None
    reason: str | None
    at: Instant
    release: bool = False
    grant: str | None = None
    result: Content | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """A worker releases a granted job, once for each `grant`; `counted` if the job itself may be the cause.

    A payload may be released after its start too: the attempt is over, and the job waits for the next one.

    Attributes:
        worker: None if a relay could not even grant it.
        delay_s: For how long the job is not granted again; only after a start, None for no delay.
    """

    worker: str | None
    reason: str
    counted: bool
    at: Instant
    grant: str | None = None
    delay_s: float | None = None


@dataclass(frozen=True, slots=True)
class Redrive:
    """An operator wants a parked job to be republished; a job that is not parked does not change.

    The counts of releases and attempts begin again. Their history stays in `EDGE_DEAD` until its age limit, or until
    the job is parked again.
    """

    reason: str
    at: Instant


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Airflow no longer wants this dispatch."""

    reason: str
    at: Instant


@dataclass(frozen=True, slots=True)
class Expire:
    """The job has waited longer than its queue allows."""

    reason: str
    at: Instant


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The holder has been out of contact for longer than is tolerated, or came back without the job.

    Attributes:
        lacking_incarnation: The incarnation that came back without it. Nothing happens if this or a later one has
            started it.
        holder: The holder that was judged. Nothing happens if the job was started again since; None means any holder.
    """

    reason: str
    at: Instant
    lacking_incarnation: int | None = None
    holder: Holder | None = None


GateEvent = ReportUserCode | BeginWrite | BeginFinishing | AnswerWrite
"""What the gate records of the holder's calls."""
Event = Start | GateEvent | Finish | Release | Redrive | Withdraw | Expire | GiveUp
EVENTS: tuple[type[Event], ...] = (
    Start,
    ReportUserCode,
    BeginWrite,
    BeginFinishing,
    AnswerWrite,
    Finish,
    Release,
    Redrive,
    Withdraw,
    Expire,
    GiveUp,
)
"""All of them, in the order of the table."""
