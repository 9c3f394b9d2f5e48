"""What a producer sends and receives: submissions, and the status of its jobs."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from edge_schemas.life.model import JobState, Outcome
from edge_schemas.wire.base import Inbound, Instant, Outbound
from edge_schemas.wire.content import SentContent
from edge_schemas.wire.ids import JobId, QueueName, SiteName, TokenName, WorkerName
from edge_schemas.wire.jobs import (
    MAX_ARGUMENTS,
    MAX_ATTEMPTS,
    MAX_COMMAND_CHARS,
    MAX_JOB_LABELS,
    MAX_PRIORITY,
    CommandWork,
    JobKind,
    OnLost,
)
from edge_schemas.wire.offline import MAX_TOLERANCE_S, MIN_TOLERANCE_S

MAX_BATCH = 100
MAX_SUBMISSION_BYTES = 1 << 20
MAX_BATCH_BYTES = 8 << 20
"""Of the bodies of both calls."""
MAX_DELAY_S = 14 * 86400.0
MAX_TTL_S = 365 * 86400.0
MAX_WAIT_S = 50.0
MAX_NAME_CHARS = 200
DEFAULT_ATTEMPTS = 3
"""Of a job that is granted again after its worker was lost."""


def _check_arguments(argv: tuple[str, ...]) -> tuple[str, ...]:
    if any("\0" in argument for argument in argv) or not argv[0]:
        raise PydanticCustomError("argv", "must begin with a program, and hold no NUL characters")
    if sum(map(len, argv)) > MAX_COMMAND_CHARS:
        raise PydanticCustomError(
            "argv_too_long", "must not be longer than {most} characters", {"most": MAX_COMMAND_CHARS}
        )
    return argv


def _check_name(name: str) -> str:
    if not name.isprintable() or not name.strip():
        raise PydanticCustomError("name", "must be printable, and not only white space")
    return name


def _check_environment(env: dict[str, str]) -> dict[str, str]:
    if any(not name or "=" in name or "\0" in name + value for name, value in env.items()):
        raise PydanticCustomError("env", "names must not be empty or hold '=', and nothing may hold NUL characters")
    if sum(len(name) + len(value) for name, value in env.items()) > MAX_COMMAND_CHARS:
        raise PydanticCustomError(
            "env_too_long", "must not be longer than {most} characters", {"most": MAX_COMMAND_CHARS}
        )
    return env


def _check_folder(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise PydanticCustomError("cwd", "must be an absolute path on the worker, and hold no NUL characters")
    return path


class SentCommand(CommandWork, Inbound):
    """See `CommandWork`."""

    argv: Annotated[tuple[str, ...], AfterValidator(_check_arguments)] = Field(min_length=1, max_length=MAX_ARGUMENTS)
    env: Annotated[dict[str, str], AfterValidator(_check_environment)] = Field(
        default_factory=dict, max_length=MAX_ARGUMENTS
    )
    cwd: Annotated[str, AfterValidator(_check_folder)] | None = Field(default=None, max_length=4096)


LabelKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$")]
LabelValue = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$")]
Group = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[!-~]+$")]
IdempotencyKey = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[!-~]+$")]


class Submission(Inbound):
    """A new job. It has either a command or a payload.

    Attributes:
        key: Idempotency key. While the job is known, and seven days beyond its end, another submission to this queue
            with the same key is no new job.
        name: For lists and logs; made from the command if there is none.
        priority: The higher is first among those that wait in the queue.
        delay_s: For how long the job is not granted.
        ttl_s: For how long it may wait until it is started, its delay included; None for the queue's setting, else no
            limit.
        on_lost: By default a payload waits again and a command fails: a command may not be repeatable.
        max_attempts: How often it may be started before it is parked. By default 3 if it waits again, otherwise 1.
        group: Jobs of the queue with the same group run one after the other, in the order of their submission.
        labels: To find it by.
        offline_tolerance_s: How long its worker may be out of contact; None for the queue's setting.
    """

    command: SentCommand | None = None
    payload: SentContent | None = None
    key: IdempotencyKey | None = None
    name: Annotated[str, AfterValidator(_check_name)] | None = Field(
        default=None, min_length=1, max_length=MAX_NAME_CHARS
    )
    priority: int = Field(default=0, ge=-MAX_PRIORITY, le=MAX_PRIORITY)
    delay_s: float = Field(default=0.0, ge=0, le=MAX_DELAY_S)
    ttl_s: float | None = Field(default=None, gt=0, le=MAX_TTL_S)
    on_lost: OnLost | None = None
    max_attempts: int | None = Field(default=None, ge=1, le=MAX_ATTEMPTS)
    group: Group | None = None
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=MAX_JOB_LABELS)
    offline_tolerance_s: float | None = Field(default=None, ge=MIN_TOLERANCE_S, le=MAX_TOLERANCE_S)

    @property
    def kind(self) -> JobKind:
        """What it is."""
        return JobKind.PAYLOAD if self.command is None else JobKind.COMMAND

    @property
    def when_lost(self) -> OnLost:
        """What `on_lost` says, or its default."""
        return self.on_lost or (OnLost.REQUEUE if self.kind is JobKind.PAYLOAD else OnLost.FAIL)

    @property
    def attempts(self) -> int:
        """What `max_attempts` says, or its default."""
        return self.max_attempts or (DEFAULT_ATTEMPTS if self.when_lost is OnLost.REQUEUE else 1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.command is None) == (self.payload is None):
            raise PydanticCustomError("work", "must have either a command or a payload")
        if self.when_lost is OnLost.FAIL and self.attempts > 1:
            text = "leave max_attempts out, or send on_lost requeue: a job that fails with its worker is started once"
            raise PydanticCustomError("attempts", text)
        return self


class SubmissionBatch(Inbound):
    """Several submissions to one queue; each is accepted or rejected for itself."""

    jobs: tuple[Submission, ...] = Field(min_length=1, max_length=MAX_BATCH)


class Submitted(Outbound):
    """A submission was accepted.

    Attributes:
        is_new: Whether this call made the job: not if an earlier one with the same key did.
    """

    job: JobId
    queue: QueueName
    is_new: bool


class SubmissionResult(Outbound):
    """What became of one submission of a batch; `job`, or why there is none.

    Attributes:
        code: See the table of errors.
        retryable: Whether it may be sent again as it is.
    """

    job: JobId | None = None
    is_new: bool = False
    code: str | None = None
    detail: str | None = None
    retryable: bool = False


class BatchResult(Outbound):
    """The results, in the order of the submissions."""

    jobs: tuple[SubmissionResult, ...]


class Cancellation(Inbound):
    """Why a producer no longer wants a job."""

    reason: str = Field(default="cancelled by its producer", min_length=1, max_length=500)


class JobStatus(Outbound):
    """A submitted job as its producer sees it.

    Attributes:
        attempt: How often it was started.
        parked: Why it is parked among the dead letters; it waits for an operator.
        not_before: Until when it is delayed.
        worker: That runs it, or ran it at its end.
        outcome: Its end, with the result; without the result in lists.
    """

    job: JobId
    queue: QueueName
    kind: JobKind
    name: str
    producer: TokenName
    state: JobState
    attempt: int
    max_attempts: int
    on_lost: OnLost
    priority: int
    parked: str | None = None
    group: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    submitted_at: Instant
    not_before: Instant | None = None
    expires_at: Instant | None = None
    worker: WorkerName | None = None
    site: SiteName | None = None
    started_at: Instant | None = None
    outcome: Outcome | None = None


class JobStatusPage(Outbound):
    """Jobs of a queue.

    Attributes:
        next: Cursor of the next page; None on the last one.
    """

    jobs: tuple[JobStatus, ...]
    next: str | None = None


class QueueStatus(Outbound):
    """What is in a queue, as its producers see it: submitted jobs only.

    Attributes:
        delayed: Those that wait for their time, or behind an earlier job of their group.
        parked: Dead letters.
    """

    queue: QueueName
    waiting: int
    delayed: int
    running: int
    parked: int
    oldest_wait_s: float | None = None
    is_paused: bool = False
