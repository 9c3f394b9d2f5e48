"""The record of a job: the truth about one dispatch, as it is kept in JetStream and shown to operators."""

from datetime import timedelta
from enum import StrEnum

from edge_schemas.wire.base import Instant, Outbound
from edge_schemas.wire.ids import JobId, QueueName, RequestId, TeamName, WorkerName
from edge_schemas.wire.jobs import AuxiliaryJob, Job, TaskIdentity
from edge_schemas.wire.offline import OfflinePolicy

ENDED_RECORD_LIFE = timedelta(days=7)
"""Whatever a late worker sends still finds a record that rejects it; a missing record rejects it as well."""


class JobState(StrEnum):
    """Where a job is in its life."""

    WAITING = "waiting"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


class Verdict(StrEnum):
    """How a job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


class Outcome(Outbound):
    """How a job ended and why; kept for `ENDED_RECORD_LIFE`."""

    verdict: Verdict
    reason: str | None = None
    exit_code: int | None = None
    accepted_state: str | None = None
    ended_at: Instant


class Holder(Outbound):
    """The worker that started the job; it alone may finish it, log for it and call the Execution API for it.

    Attributes:
        incarnation: Of the worker's agent that last presented the receipt. A later one that does not have the job any
            more has lost it.
        grant: Which grant it started.
    """

    worker: WorkerName
    incarnation: int
    started_at: Instant
    grant: str | None = None


class UserCode(Outbound):
    """The process that Airflow was told of at `/run`. From here on a retry would repeat user code."""

    hostname: str
    pid: int
    at: Instant


class WriteAnswer(Outbound):
    """The answer of the last write to the Execution API, replayed to a repeat of the same request."""

    request_id: RequestId
    status: int
    body: str


class OpenWrite(Outbound):
    """A write that Airflow answers differently the second time, and that may have been sent."""

    request_id: RequestId
    sent_at: Instant


class StopRequest(Outbound):
    """Who wants the job to end, and why."""

    reason: str
    at: Instant


class ReleaseNote(Outbound):
    """A worker gave the job back.

    Attributes:
        grant: Which grant it gave back, so that no repeat of a call counts again, starts the job or ends a later hold.
    """

    worker: WorkerName
    reason: str
    at: Instant
    grant: str | None = None


class JobRecord(Outbound):
    """The truth about one job.

    Attributes:
        task: Which task instance; None for an auxiliary job.
        job: The whole job while it is not ended; dropped then, to keep the bucket small.
        finishing: A terminal state is on its way to Airflow. While set, no heartbeat answer means "stop".
        accepted_state: The terminal state that Airflow accepted. It decides the outcome, whatever the exit status.
        open_write: Begun, and not known to be answered.
        parked: Why the job was put aside in `EDGE_DEAD`; it waits, but is not published until redriven.
        waiting_again_since: When a hold ended before user code ran, or the job was redriven, for the last time.
    """

    id: JobId
    queue: QueueName
    team: TeamName | None = None
    task: TaskIdentity | None = None
    auxiliary: AuxiliaryJob | None = None
    offline: OfflinePolicy = OfflinePolicy()
    state: JobState
    job: Job | None = None
    created_at: Instant
    holder: Holder | None = None
    user_code: UserCode | None = None
    finishing: bool = False
    accepted_state: str | None = None
    last_write: WriteAnswer | None = None
    open_write: OpenWrite | None = None
    stop: StopRequest | None = None
    releases: tuple[ReleaseNote, ...] = ()
    parked: str | None = None
    waiting_again_since: Instant | None = None
    outcome: Outcome | None = None

    @property
    def waits_since(self) -> Instant:
        """Since when no worker has taken the job, while it waits."""
        return self.waiting_again_since or self.created_at


def new_record(job: Job) -> JobRecord:
    """The record of a job that was just dispatched."""
    return JobRecord(
        id=job.id,
        queue=job.queue,
        team=job.team,
        task=job.task,
        auxiliary=job.auxiliary,
        offline=job.offline,
        state=JobState.WAITING,
        job=job,
        created_at=job.published_at,
    )
