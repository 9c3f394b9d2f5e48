"""The long-poll of a worker: its report goes in, grants and directives come out.

The answer is the difference between the state and what the poll reports. It is repeated until the report agrees, so a
lost answer only costs time. Of two polls of one worker the one with the higher `(incarnation, seq)` counts; the other
is answered `superseded`.
"""

from typing import Literal

from pydantic import Field

from edge_schemas.wire.base import LARGEST_COUNT, Inbound, Instant, Outbound
from edge_schemas.wire.ids import JobId
from edge_schemas.wire.jobs import AuxiliaryKind, Job, JobKind
from edge_schemas.wire.worker_entry import CredentialConflict
from edge_schemas.wire.worker_report import JobReport, WorkerHealth, WorkerVersions
from edge_schemas.wire.workers import WorkerSettings

PROTOCOL = 1
"""Sent with every enrolment and poll. A relay serves this and the previous one."""
SUPPORTED_PROTOCOLS = (1,)

MAX_SLOTS = 1024
MAX_POLL_TIMEOUT_S = 50.0
MAX_REASON_CHARS = 500
GRANT_WAIT_S = 30
"""How long a granted job may stay unstarted before it is granted again; the consumers' `ack_wait`."""


PollKind = Literal[JobKind.TASK, JobKind.COMMAND, JobKind.PAYLOAD]
"""The kinds of jobs that need nobody's permission but the worker's."""


class Poll(Inbound):
    """A worker's report.

    Attributes:
        incarnation: Counts the starts of this worker; kept on its disk.
        seq: Counts its polls within the incarnation.
        slots: Jobs it can run at once.
        free: Jobs it would accept now; never above `slots`, 0 while it drains.
        poll_timeout_s: How long it waits for an answer; the relay may answer sooner.
        settings_version: The version of the `WorkerSettings` that it applies.
        instance: Names machine, boot and state folder. An agent with the `instance` of an earlier one has replaced
            it: only one agent at a time can lock a state folder. Empty where the machine does not provide it.
        host: The machine's name, for people.
        superseded_by: The incarnation named when this agent was answered `superseded`. That this agent still polls
            proves that the credential was copied.
        auxiliary: The kinds of auxiliary jobs that the worker's owner allows; it is granted no others.
        kinds: The other kinds of jobs that it accepts: tasks, commands, payloads. It is granted no others.
        in_conflict: It knows that its credential is in conflict, and accepts no jobs.
        no_jobs_reason: Why it accepts no jobs though it does not drain, for people; for example, its runtime is not
            ready.
    """

    protocol: int
    incarnation: int = Field(ge=1, le=LARGEST_COUNT)
    seq: int = Field(ge=1, le=LARGEST_COUNT)
    instance: str = Field(default="", max_length=64)
    host: str = Field(default="", max_length=253)
    superseded_by: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    auxiliary: tuple[AuxiliaryKind, ...] = Field(default=(), max_length=len(AuxiliaryKind))
    kinds: tuple[PollKind, ...] = Field(default=(JobKind.TASK,), max_length=len(JobKind))
    in_conflict: bool = False
    slots: int = Field(ge=0, le=MAX_SLOTS)
    free: int = Field(ge=0, le=MAX_SLOTS)
    jobs: tuple[JobReport, ...] = Field(default=(), max_length=2 * MAX_SLOTS)
    draining: bool = False
    no_jobs_reason: str | None = Field(default=None, max_length=MAX_REASON_CHARS)
    poll_timeout_s: float = Field(default=MAX_POLL_TIMEOUT_S, ge=0, le=MAX_POLL_TIMEOUT_S)
    settings_version: int = Field(default=0, ge=-LARGEST_COUNT, le=LARGEST_COUNT)
    versions: WorkerVersions
    health: WorkerHealth = WorkerHealth()

    @property
    def accepts(self) -> frozenset[JobKind]:
        """All kinds of jobs that it may be granted."""
        return frozenset(self.kinds).union(JobKind(kind.value) for kind in self.auxiliary)


class Grant(Outbound):
    """An offer of a job. Only `start` with the receipt makes the worker its holder."""

    job: Job
    receipt: str
    expires_at: Instant


class StopDirective(Outbound):
    """End this job's processes.

    Attributes:
        drop: This worker no longer holds the job: report no outcome for it.
    """

    job: JobId
    reason: str
    drop: bool = False


class PollAnswer(Outbound):
    """Grants and directives for the worker. If there are none, the relay answers 204 instead.

    Attributes:
        conflict: Sent to the newer of two agents with one credential until it reports `in_conflict`.
        conflict_resolved: Sent to an agent that reports `in_conflict` after the conflict has ended.
        required_airflow: The centre's version of Airflow, sent to a worker whose runtime is too new for a job that was
            waiting for it. The worker SHOULD report `free` 0 until its runtime has changed.
    """

    grants: tuple[Grant, ...] = ()
    stop: tuple[StopDirective, ...] = ()
    settings: WorkerSettings | None = None
    conflict: CredentialConflict | None = None
    conflict_resolved: bool = False
    required_airflow: str | None = None
