"""The record of a job: the truth about one dispatch, as it is kept in JetStream and shown to operators."""

from datetime import timedelta
from enum import StrEnum

from edge_schemas.wire.base import Instant, Outbound
from edge_schemas.wire.content import Content
from edge_schemas.wire.ids import JobId, QueueName, RequestId, TeamName, WorkerName
from edge_schemas.wire.jobs import AuxiliaryJob, Job, JobKind, JobTerms, TaskIdentity
from edge_schemas.wire.offline import OfflinePolicy

ENDED_RECORD_LIFE = timedelta(days=7)
"""Whatever a late worker sends still finds a record that rejects it; a missing record rejects it as well."""


class JobState(StrEnum):
    """The state of a job."""

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
    """How a job ended and why; kept for `ENDED_RECORD_LIFE`.

    Attributes:
        result: What the worker answered to a producer.
    """

    verdict: Verdict
    reason: str | None = None
    exit_code: int | None = None
    accepted_state: str | None = None
    result: Content | None = None
    ended_at: Instant


class Holder(Outbound):
    """The worker that started the job; it alone may finish it, log for it and call the Execution API for it.

    Attributes:
        incarnation: Of the worker's agent that last presented the receipt. A later agent that does not have the job has
            lost it.
        grant: The grant that it started.
        key_hash: Of the value that this agent keeps in memory only; see `routes.AGENT_HEADER`.
    """

    worker: WorkerName
    incarnation: int
    started_at: Instant
    grant: str | None = None
    key_hash: str | None = None


class UserCode(Outbound):
    """The process that was reported to Airflow by `/run`. From here on a retry would repeat user code."""

    hostname: str
    pid: int
    at: Instant


class WriteAnswer(Outbound):
    """The answer of the last write to the Execution API, replayed to a repeat of the same request."""

    request_id: RequestId
    status: int
    body: str


class OpenWrite(Outbound):
    """A write that may have been sent, and that Airflow answers differently the second time.

    Attributes:
        before: What Airflow held before the write was first sent, where this shows whether the write took effect.
    """

    request_id: RequestId
    sent_at: Instant
    before: str | None = None


class StopRequest(Outbound):
    """Why the job is to end."""

    reason: str
    at: Instant


class Redriven(Outbound):
    """An operator redrove the job.

    Attributes:
        parked: Why it had been parked.
    """

    reason: str
    parked: str
    at: Instant


class ReleaseNote(Outbound):
    """A worker released the job, or lost it before user code ran; or a relay could not read its message.

    Attributes:
        worker: None if it was the relay.
        grant: The grant that it released. A repeat of a call with this grant is not counted again, does not start the
            job and does not end it after a later start.
        attempt: The attempt that ended with this; None if the job had not been started, or user code had not begun.
    """

    worker: WorkerName | None = None
    reason: str
    at: Instant
    grant: str | None = None
    attempt: int | None = None


class JobRecord(Outbound):
    """The state of one job.

    Attributes:
        task: Which task instance; None for other kinds.
        terms: What its producer asked for; None for a job of Airflow.
        attempt: How often it was started, by whatever worker; of a job of Airflow too.
        not_before: It waits, but is not published before this moment.
        job: The whole job while it is not ended; dropped then, to keep the bucket small.
        finishing: A final state is on its way to Airflow. While set, no heartbeat answer means "stop".
        accepted_state: The final state that Airflow accepted. It decides the outcome, whatever the exit status.
        open_write: A write that was begun and is not known to be answered.
        returned_grants: The last grants that were released without being counted.
        parked: Why the job was parked in `EDGE_DEAD`; it waits, but is not published until it is redriven.
        redriven: The last redrive.
        waiting_again_since: When the job last lost its holder before user code ran, or was redriven.
    """

    id: JobId
    queue: QueueName
    team: TeamName | None = None
    task: TaskIdentity | None = None
    auxiliary: AuxiliaryJob | None = None
    terms: JobTerms | None = None
    offline: OfflinePolicy = OfflinePolicy()
    state: JobState
    attempt: int = 0
    not_before: Instant | None = None
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
    returned_grants: tuple[str, ...] = ()
    parked: str | None = None
    redriven: Redriven | None = None
    waiting_again_since: Instant | None = None
    outcome: Outcome | None = None

    @property
    def waits_since(self) -> Instant:
        """Since when no worker has taken the job, while it waits."""
        return self.waiting_again_since or self.created_at

    @property
    def kind(self) -> JobKind:
        """What it is."""
        if self.terms is not None:
            return self.terms.kind
        return JobKind.TASK if self.auxiliary is None else JobKind(self.auxiliary.kind.value)

    def was_released(self, grant: str | None) -> bool:
        """Whether a grant was released, as far as the record still knows; never for an unknown grant, None."""
        return grant is not None and (
            grant in self.returned_grants or any(note.grant == grant for note in self.releases)
        )


def new_record(job: Job, *, not_before: Instant | None = None) -> JobRecord:
    """The record of a new dispatch."""
    return JobRecord(
        terms=job.terms,
        not_before=not_before,
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
