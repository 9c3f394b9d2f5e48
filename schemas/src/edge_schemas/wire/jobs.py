"""A job, as it is published, kept in its record and granted to a worker."""

from enum import StrEnum
from typing import Any, assert_never

from pydantic import Field

from edge_schemas.wire.base import Instant, Outbound
from edge_schemas.wire.content import Content
from edge_schemas.wire.ids import BundleDigest, JobId, QueueName, TaskInstanceId, TeamName
from edge_schemas.wire.offline import OfflinePolicy


class TaskIdentity(Outbound):
    """Which task instance of Airflow a job runs. It does not name the dispatch: one task instance may have several."""

    ti_id: TaskInstanceId
    dag_id: str
    task_id: str
    run_id: str
    try_number: int = Field(ge=0)
    map_index: int = -1


class TaskWork(Outbound):
    """What the task host needs to run an Airflow task.

    Attributes:
        workload: Airflow's `ExecuteTask` as JSON, without its token.
        core_executor: The centre's `[core] executor`; DAGs that name an alias load only if the worker knows it.
        airflow_version: The centre's. A runtime of a newer minor version can't run the task.
    """

    task: TaskIdentity
    workload: dict[str, Any]
    core_executor: str
    airflow_version: str | None = None


class BundleRef(Outbound):
    """The published version of a DAG bundle that a job runs. Without one, the worker's own folder is used.

    Attributes:
        name: Airflow's name for the bundle; any text.
        digest: Of the version's manifest.
        requirements: The path in the bundle of a requirements file that the code needs; None for the runtime as it is.
    """

    name: str = Field(min_length=1, max_length=250)
    digest: BundleDigest
    requirements: str | None = Field(default=None, max_length=1024)


class AuxiliaryKind(StrEnum):
    """Work that Airflow sends besides tasks."""

    CALLBACK = "callback"
    CONNECTION_TEST = "connection_test"


class JobKind(StrEnum):
    """What a job is. A worker is granted only the kinds that it accepts."""

    TASK = "task"
    """A task instance of Airflow."""
    CALLBACK = AuxiliaryKind.CALLBACK.value
    CONNECTION_TEST = AuxiliaryKind.CONNECTION_TEST.value
    COMMAND = "command"
    """A program with its arguments, submitted by a producer and run by the worker itself, without Airflow."""
    PAYLOAD = "payload"
    """Bytes, submitted by a producer for a consumer that knows what they mean."""


class AuxiliaryJob(Outbound):
    """Work that is no task: it has no try, no state of its own in Airflow, and is never run twice.

    Attributes:
        id: Airflow's id of the callback or of the connection test, a UUID.
    """

    kind: AuxiliaryKind
    id: TaskInstanceId


class AuxiliaryWork(Outbound):
    """What the task host needs to run an auxiliary job.

    Attributes:
        workload: Airflow's `ExecuteCallback` or `TestConnection` as JSON, without its token.
        core_executor: As in `TaskWork`.
    """

    auxiliary: AuxiliaryJob
    workload: dict[str, Any]
    core_executor: str


MAX_ARGUMENTS = 1000
MAX_COMMAND_CHARS = 100_000
"""Of all arguments, or of all environment variables: what every system can pass to a program."""


class CommandWork(Outbound):
    """A program that the worker runs, without a shell.

    Attributes:
        argv: The program and its arguments. A program without a slash is looked up in the worker's `PATH`.
        env: Variables besides those that the worker's owner gives to commands.
        cwd: An absolute path on the worker; None for the job's own folder.
        timeout_s: After this many seconds the program is stopped and the job has failed; None for no limit.
    """

    argv: tuple[str, ...] = Field(min_length=1, max_length=MAX_ARGUMENTS)
    env: dict[str, str] = Field(default_factory=dict, max_length=MAX_ARGUMENTS)
    cwd: str | None = Field(default=None, max_length=4096)
    timeout_s: float | None = Field(default=None, gt=0, le=30 * 86400)


class PayloadWork(Outbound):
    """Bytes for a consumer."""

    payload: Content


class OnLost(StrEnum):
    """What happens to a started job whose worker is lost, or shut down while the job runs."""

    REQUEUE = "requeue"
    """It waits again, until its attempts are used up. It may run twice, one after the other."""
    FAIL = "fail"
    """It ends."""


MAX_ATTEMPTS = 100
MAX_JOB_LABELS = 16
MAX_PRIORITY = 1000


class JobTerms(Outbound):
    """What the producer of a job asked for. A job of Airflow has none.

    Attributes:
        kind: A command or a payload.
        name: For lists and logs: the producer's, or made from the command.
        producer: The name of the access token that submitted it.
        priority: The higher is first among those that wait.
        max_attempts: How often it may be started; then it is parked.
        expires_at: When it has waited too long; a job that runs may go on. None for never.
        group: Jobs of one queue with the same group run one after the other, in the order of their submission.
        digest: Of the submission, so that the same key with another submission is noticed.
    """

    kind: JobKind
    name: str
    producer: str
    priority: int = 0
    on_lost: OnLost = OnLost.FAIL
    max_attempts: int = 1
    expires_at: Instant | None = None
    group: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    digest: str = ""


MAX_SIGNATURES = 8


class Signature(Outbound):
    """An Ed25519 signature, and the id of the key that made it.

    Attributes:
        key: The first 16 digits of the key's fingerprint. It helps to find the key, and proves nothing.
        value: In base64.
    """

    key: str = Field(pattern=r"^[0-9a-f]{16}$")
    value: str = Field(max_length=88)


class Signed(Outbound):
    """A text and signatures of its bytes. What is signed is never written again: other versions would do it otherwise.

    Attributes:
        payload: JSON, exactly as it was signed.
    """

    payload: str
    signatures: tuple[Signature, ...] = Field(max_length=MAX_SIGNATURES)


class Job(Outbound):
    """One dispatch of one unit of work. It holds no token and no secret.

    Attributes:
        signed: The job as the executor signed it, see `edge_schemas.signing`. A worker that checks signatures uses
            nothing else of the job. What a stored job has outside is for relays, and lacks the workload.
        bundle: The DAG code that it runs, if the worker is to fetch it.
        terms: Of a job that was submitted by a producer.
        attempt: Which start this would be, from 1, for a job that was submitted by a producer.
        traceparent: W3C trace context that Airflow gave the work; it is the parent of all spans of the job.
    """

    id: JobId
    queue: QueueName
    team: TeamName | None = None
    work: TaskWork | AuxiliaryWork | CommandWork | PayloadWork
    bundle: BundleRef | None = None
    terms: JobTerms | None = None
    attempt: int = 1
    offline: OfflinePolicy = OfflinePolicy()
    published_at: Instant
    traceparent: str | None = None
    signed: Signed | None = None

    @property
    def task(self) -> TaskIdentity | None:
        """The task instance, unless this is an auxiliary job."""
        return self.work.task if isinstance(self.work, TaskWork) else None

    @property
    def auxiliary(self) -> AuxiliaryJob | None:
        """The auxiliary job, unless this is a task."""
        return self.work.auxiliary if isinstance(self.work, AuxiliaryWork) else None

    @property
    def airflow_work(self) -> TaskWork | AuxiliaryWork | None:
        """What Airflow's task host runs; None if a producer submitted the job."""
        return self.work if isinstance(self.work, TaskWork | AuxiliaryWork) else None

    @property
    def workload(self) -> dict[str, Any]:
        """Airflow's workload; empty if a producer submitted the job."""
        return {} if self.airflow_work is None else self.airflow_work.workload

    @property
    def kind(self) -> JobKind:
        """What it is."""
        match self.work:
            case TaskWork():
                return JobKind.TASK
            case AuxiliaryWork():
                return JobKind(self.work.auxiliary.kind.value)
            case CommandWork():
                return JobKind.COMMAND
            case PayloadWork():
                return JobKind.PAYLOAD
            case _:
                assert_never(self.work)
