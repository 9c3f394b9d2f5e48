"""The long-poll of a worker: its report goes in, grants and directives come out.

The answer is the difference between the state and what the poll reports. It is repeated until the report agrees, so a
lost answer only costs time. Of two polls of one worker the one with the higher `(incarnation, seq)` counts; the other
is answered `superseded`.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from edge_schemas.wire.base import Inbound, Instant, Outbound
from edge_schemas.wire.ids import JobId, QueueName, TeamName, WorkerName
from edge_schemas.wire.jobs import Job
from edge_schemas.wire.offline import OfflinePolicy
from edge_schemas.wire.workers import WorkerSettings

PROTOCOL = 1
"""Sent with every enrolment and poll. A relay serves this and the previous one."""
SUPPORTED_PROTOCOLS = (1,)

MAX_SLOTS = 1024
MAX_POLL_TIMEOUT_S = 50.0
MAX_REASON_CHARS = 500
GRANT_WAIT_S = 30
"""How long a granted job may stay unstarted before it is granted again; the consumers' `ack_wait`."""


class JobPhase(StrEnum):
    """The phase of a job on the worker."""

    GRANTED = "granted"
    RUNNING = "running"
    FINISHING = "finishing"


class JobReport(Inbound):
    """A job on the worker.

    Attributes:
        offline: The offline contract that the worker keeps for it.
    """

    id: JobId
    phase: JobPhase
    offline: OfflinePolicy | None = None


class ProxyKind(StrEnum):
    """How the worker reaches the relay."""

    DIRECT = "direct"
    HTTP = "http"
    HTTPS = "https"


class WorkerHealth(Inbound):
    """Figures of the worker and its machine; for operators only. Counts are since the agent began.

    Attributes:
        cpu_busy_ratio: Of all CPUs of the machine, since the last poll; 1 is fully busy.
        disk_free_bytes: Where the state folder is.
        link_cuts: How often the link to the relay was lost.
        held_calls: Calls of tasks that wait in the local gateway for the relay.
        log_lag_bytes: Log bytes on disk that the relay does not have yet.
        clock_skew_s: This machine's clock minus the relay's.
        proxy: None if it is not known yet.
    """

    cpu_busy_ratio: float | None = Field(default=None, ge=0, le=1)
    load_1m: float | None = Field(default=None, ge=0)
    memory_used_bytes: int | None = Field(default=None, ge=0)
    memory_total_bytes: int | None = Field(default=None, ge=0)
    disk_free_bytes: int | None = Field(default=None, ge=0)
    disk_total_bytes: int | None = Field(default=None, ge=0)
    link_cuts: int | None = Field(default=None, ge=0)
    held_calls: int | None = Field(default=None, ge=0)
    log_lag_bytes: int | None = Field(default=None, ge=0)
    clock_skew_s: float | None = Field(default=None, allow_inf_nan=False)
    proxy: ProxyKind | None = None


ShortText = Annotated[str, Field(max_length=120)]


class WorkerVersions(Inbound):
    """Versions of the software on the worker."""

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
        free: Jobs it would accept now; never above `slots`, 0 while it drains.
        poll_timeout_s: How long it waits for an answer; the relay may answer sooner.
        settings_version: The version of the `WorkerSettings` that it applies.
        instance: Names machine, boot and state folder. An agent with the `instance` of an earlier one has replaced
            it: only one agent at a time can lock a state folder. Empty where the machine does not provide it.
        host: The machine's name, for people.
        superseded_by: The incarnation named when this agent was answered `superseded`. That this agent still polls
            proves that the credential was copied.
        in_conflict: It knows that its credential is in conflict, and takes no jobs.
        no_jobs_reason: Why it takes no jobs though it does not drain, for people; for example, its runtime is not
            ready.
    """

    protocol: int
    incarnation: int = Field(ge=1)
    seq: int = Field(ge=1)
    instance: str = Field(default="", max_length=64)
    host: str = Field(default="", max_length=253)
    superseded_by: int | None = Field(default=None, ge=1)
    in_conflict: bool = False
    slots: int = Field(ge=0, le=MAX_SLOTS)
    free: int = Field(ge=0, le=MAX_SLOTS)
    jobs: tuple[JobReport, ...] = Field(default=(), max_length=2 * MAX_SLOTS)
    draining: bool = False
    no_jobs_reason: str | None = Field(default=None, max_length=MAX_REASON_CHARS)
    poll_timeout_s: float = Field(default=MAX_POLL_TIMEOUT_S, ge=0, le=MAX_POLL_TIMEOUT_S)
    settings_version: int = 0
    versions: WorkerVersions
    health: WorkerHealth = WorkerHealth()


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


class AgentSeen(Outbound):
    """An agent as of one of its polls. Of two polls the one with the higher `(incarnation, seq)` is newer.

    Attributes:
        arrival: A random id that the relay gives each arriving poll.
        address: The peer's address at the relay; it may be that of a proxy or a load balancer.
        left: The connection was closed before the poll was answered: no poll of this agent is parked.
    """

    instance: str
    incarnation: int
    seq: int
    arrival: str
    host: str
    address: str
    last_poll_at: Instant
    left: bool = False


class CredentialConflict(Outbound):
    """Two agents use one worker's credential at the same time: the state folder was copied.

    Both keep the jobs they have, and no job is given up because one of them lacks it. The newer one gets no jobs until
    an operator decides.
    """

    older: AgentSeen
    newer: AgentSeen
    since: Instant


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


class WorkerEntry(Outbound):
    """What is known from a worker's last poll; its value in `edge_workers`.

    Attributes:
        agent: The sender. A parked poll is superseded once the entry has another arrival of its incarnation.
        predecessors: Earlier agents that may still run; none has polled since `taken_over_at`.
        conflict: Two agents use the credential.
        relay: The replica that received it.
        poll_timeout_s: How long it may wait for its answer.
        no_jobs_reason: See `Poll`.
        queues: Those that its credential gives access to; None in an entry that an older relay wrote.
    """

    worker: WorkerName
    site: str
    team: TeamName | None = None
    queues: tuple[QueueName, ...] | None = None
    agent: AgentSeen
    predecessors: tuple[AgentSeen, ...] = ()
    taken_over_at: Instant | None = None
    conflict: CredentialConflict | None = None
    relay: str
    poll_timeout_s: float
    slots: int
    free: int
    draining: bool
    no_jobs_reason: str | None = None
    jobs: tuple[JobReport, ...]
    versions: WorkerVersions
    health: WorkerHealth


class RelayBeat(Outbound):
    """A replica reports that workers can reach it; sent on `RELAY_BEATS` every `RELAY_BEAT_S`.

    Attributes:
        serving_since: Since when it has served workers and been connected to the broker, without interruption.
    """

    relay: str
    serving_since: Instant


RELAY_BEAT_S = 2.0
