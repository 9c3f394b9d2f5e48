"""The one long-poll of a worker: its report goes in, grants and directives come out.

The answer is computed from state against what the poll reports and is repeated until the report agrees, so a lost
answer costs time and nothing else. Of two polls of one worker the one with the higher `(incarnation, seq)` counts;
the lower is answered `superseded`.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from edge_schemas.base import Inbound, Instant, Outbound
from edge_schemas.ids import JobId, WorkerName
from edge_schemas.jobs import Job
from edge_schemas.workers import WorkerSettings

PROTOCOL = 1
"""Sent with every enrolment and poll. A relay serves this and the previous one."""
SUPPORTED_PROTOCOLS = (1,)

MAX_SLOTS = 1024
MAX_HOLD_S = 50.0
GRANT_WAIT_S = 30
"""How long a granted job may stay unstarted before it is handed out again; the consumers' `ack_wait`."""


class JobPhase(StrEnum):
    """Where a job stands on the worker."""

    GRANTED = "granted"
    RUNNING = "running"
    FINISHING = "finishing"


class JobReport(Inbound):
    """A job that the worker knows of."""

    id: JobId
    phase: JobPhase


class WorkerHealth(Inbound):
    """Figures of the worker's machine; shown to operators, never decided upon."""

    load_1m: float | None = Field(default=None, ge=0)
    memory_used_bytes: int | None = Field(default=None, ge=0)
    memory_total_bytes: int | None = Field(default=None, ge=0)
    disk_free_bytes: int | None = Field(default=None, ge=0)


ShortText = Annotated[str, Field(max_length=120)]


class WorkerVersions(Inbound):
    """What runs on the worker."""

    agent: ShortText
    python: ShortText
    airflow: ShortText | None = None
    platform: ShortText


class Poll(Inbound):
    """A worker's report.

    Attributes:
        incarnation: Counts the starts of this worker; kept on its disk.
        seq: Counts its polls within the incarnation.
        slots: Jobs it can run at once.
        free: Jobs it would take now; never above `slots`, 0 while it drains.
        hold_s: How long it is willing to wait for an answer; the relay may answer sooner.
        settings_version: The version of `WorkerSettings` it acts by.
    """

    protocol: int
    incarnation: int = Field(ge=1)
    seq: int = Field(ge=1)
    slots: int = Field(ge=0, le=MAX_SLOTS)
    free: int = Field(ge=0, le=MAX_SLOTS)
    jobs: tuple[JobReport, ...] = Field(default=(), max_length=2 * MAX_SLOTS)
    draining: bool = False
    hold_s: float = Field(default=MAX_HOLD_S, ge=0, le=MAX_HOLD_S)
    settings_version: int = 0
    versions: WorkerVersions
    health: WorkerHealth = WorkerHealth()


class Grant(Outbound):
    """An offer of a job. It promises nothing: only `start` with the receipt makes the worker its holder."""

    job: Job
    receipt: str
    expires_at: Instant


class StopDirective(Outbound):
    """End this job's processes.

    Attributes:
        drop: The job is not this worker's any more: report no outcome for it.
    """

    job: JobId
    reason: str
    drop: bool = False


class PollAnswer(Outbound):
    """What the worker is told. With nothing to say the relay answers 204 instead."""

    grants: tuple[Grant, ...] = ()
    stop: tuple[StopDirective, ...] = ()
    settings: WorkerSettings | None = None


class StartRequest(Inbound):
    """Confirms a grant; only the first worker to do so becomes the holder."""

    receipt: str = Field(max_length=2048)
    incarnation: int = Field(ge=1)


class FinishRequest(Inbound):
    """The job's processes are gone.

    Attributes:
        exit_code: Of the task host's fork, negative for a signal; None if no process ever ran.
        reason: For people, shown in Airflow when no final state was accepted.
    """

    exit_code: int | None = None
    reason: str | None = Field(default=None, max_length=1000)


class ReleaseRequest(Inbound):
    """Gives a granted job back.

    Attributes:
        counted: The job itself may be the cause; after five such releases it is parked for an operator.
    """

    receipt: str = Field(max_length=2048)
    reason: str = Field(min_length=1, max_length=500)
    counted: bool = True


class WorkerEntry(Outbound):
    """What is known of a worker's last poll; the heartbeat message in `edge_workers`.

    Attributes:
        arrival: Drawn by the relay for each arriving poll; a parked poll whose entry holds another one is superseded.
        last_poll_at: Contact is the arrival of a poll, not that one is parked.
    """

    worker: WorkerName
    site: str
    incarnation: int
    seq: int
    arrival: str
    relay: str
    last_poll_at: Instant
    slots: int
    free: int
    draining: bool
    jobs: tuple[JobReport, ...]
    versions: WorkerVersions
    health: WorkerHealth
