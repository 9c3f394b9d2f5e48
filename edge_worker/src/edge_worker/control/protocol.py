"""What goes over the control socket: one request and one reply for each connection, each a line of JSON."""

from typing import Literal

from pydantic import Field

from edge_schemas.wire.base import Inbound, Instant, Outbound
from edge_schemas.wire.polls import MAX_REASON_CHARS
from edge_schemas.wire.worker_report import JobPhase, WorkerHealth, WorkerVersions
from edge_schemas.wire.workers import Availability

SOCKET_NAME = "ctl.sock"
POINTER = "control"
"""File in the state folder with the path of the socket: root finds it whatever its own environment is."""
MAX_REQUEST_BYTES = 4096
MAX_REPLY_BYTES = 8 << 20
PAUSED_HERE = "paused on the machine: "
"""Begins what the centre is told."""
MAX_OWN_REASON_CHARS = MAX_REASON_CHARS - len(PAUSED_HERE)

Do = Literal["status", "pause", "resume", "drain", "stop"]


class ControlRequest(Inbound):
    """What the machine's owner wants of the agent.

    Attributes:
        reason: Of a pause.
    """

    do: Do
    reason: str = Field(default="", max_length=MAX_OWN_REASON_CHARS)


class OwnPause(Outbound):
    """The owner's pause; kept in the state folder as `owner.json`, so that it survives a restart.

    Attributes:
        by: The user of the machine who asked for it.
    """

    reason: str
    since: Instant
    by: str


class JobStatus(Outbound):
    """A job of the agent.

    Attributes:
        since: When its start was confirmed; None before that.
        log: Path of the task's log.
    """

    job: str
    phase: JobPhase
    queue: str
    task: str
    since: Instant | None = None
    frozen_since: Instant | None = None
    log: str


class BundleFetch(Outbound):
    """A version of a published bundle that is being fetched.

    Attributes:
        jobs: How many jobs wait for it.
        pieces: How many pieces are to be fetched; 0 until that is known.
        done: How many of them have arrived.
        received: Bytes so far.
    """

    bundle: str
    digest: str
    jobs: int
    pieces: int
    done: int
    received: int


class AgentStatus(Outbound):
    """What the agent tells about itself.

    Attributes:
        proxy: With what named it; None for a direct connection.
        link: `up`, `lost`, or `untried` before the first answer.
        link_since: Since when.
        refusal: Why it accepts no job now; None if it accepts one.
        wanted: What the centre wants, with reason and end.
        own_pause: What the owner wants; None if nothing.
        stage: Of a shutdown: `run`, `drain`, `stop` or `leave`.
        ended_jobs_bytes: Disk space of ended jobs and their logs; the limit is `spool_max_bytes`.
    """

    worker: str
    site: str
    team: str | None = None
    queues: tuple[str, ...]
    pid: int
    began_at: Instant
    incarnation: int
    state_dir: str
    relay: str
    proxy: str | None = None
    link: Literal["up", "lost", "untried"]
    link_since: Instant
    last_answer_at: Instant | None = None
    slots: int
    free: int
    refusal: str | None = None
    wanted: Availability
    wanted_reason: str | None = None
    wanted_until: Instant | None = None
    own_pause: OwnPause | None = None
    stage: str
    settings_version: int
    jobs: tuple[JobStatus, ...] = ()
    fetches: tuple[BundleFetch, ...] = ()
    health: WorkerHealth
    versions: WorkerVersions
    ended_jobs_bytes: int
    spool_max_bytes: int


class ControlReply(Outbound):
    """The agent's answer.

    Attributes:
        error: Why it did not do what was asked; None if it did.
        status: After what was asked was done.
    """

    error: str | None = None
    status: AgentStatus | None = None
