"""Actions of operators on workers, sites, queues and jobs: on one or on thousands, with a reason.

An action sets a desired state. Its repeat changes nothing.
"""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from edge_schemas.admin.desired import MAX_LABELS
from edge_schemas.wire.base import Inbound, Outbound
from edge_schemas.wire.ids import JobId, QueueName, Reason, SiteName, TeamName, WorkerName
from edge_schemas.wire.jobs import JobKind
from edge_schemas.wire.offline import MAX_TOLERANCE_S, MIN_TOLERANCE_S
from edge_schemas.wire.polls import MAX_SLOTS
from edge_schemas.wire.workers import WorkerState

MAX_TARGETS = 10_000
SearchText = Annotated[str, Field(min_length=1, max_length=200)]
"""Never empty: an empty text would match everything."""
LabelKey = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$")]
LabelValue = Annotated[str, Field(max_length=120, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class Pause(Inbound):
    """No new jobs; what runs goes on."""

    do: Literal["pause"]
    until: AwareDatetime | None = None


class Resume(Inbound):
    """Ends a pause, a drain or a stop."""

    do: Literal["resume"]


class Drain(Inbound):
    """No new jobs; the agent exits when the jobs that run have ended."""

    do: Literal["drain"]
    until: AwareDatetime | None = None


class Stop(Inbound):
    """No new jobs; the jobs that run are stopped, then the agent exits."""

    do: Literal["stop"]
    until: AwareDatetime | None = None


class SetQueues(Inbound):
    """Changes the queues of a worker; at least one must be left.

    Attributes:
        queues: The new list; None keeps the current one, which `add` and `remove` change.
        as_enrolled: Back to the queues of its enrolment.
    """

    do: Literal["set-queues"]
    queues: tuple[QueueName, ...] | None = Field(default=None, min_length=1, max_length=100)
    add: tuple[QueueName, ...] = Field(default=(), max_length=100)
    remove: tuple[QueueName, ...] = Field(default=(), max_length=100)
    as_enrolled: bool = False


class SetSlots(Inbound):
    """Changes how many jobs a worker runs at once.

    Attributes:
        slots: None for the worker's own setting.
    """

    do: Literal["set-slots"]
    slots: int | None = Field(ge=0, le=MAX_SLOTS)


class SetLabels(Inbound):
    """Changes the labels of a worker."""

    do: Literal["set-labels"]
    set: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=MAX_LABELS)
    remove: tuple[LabelKey, ...] = Field(default=(), max_length=MAX_LABELS)


class RotateCredential(Inbound):
    """The worker makes a new secret at its next poll; the older one is valid until the new one is first used."""

    do: Literal["rotate"]


class Revoke(Inbound):
    """Ends the worker's credential, for good."""

    do: Literal["revoke"]


class ResolveConflict(Inbound):
    """Decides which of two agents with one credential is the worker."""

    do: Literal["resolve"]
    keep: Literal["older", "newer"]


class Remove(Inbound):
    """Removes a revoked worker from all lists; its name becomes free."""

    do: Literal["remove"]


WorkerAction = Annotated[
    Pause
    | Resume
    | Drain
    | Stop
    | SetQueues
    | SetSlots
    | SetLabels
    | RotateCredential
    | Revoke
    | ResolveConflict
    | Remove,
    Field(discriminator="do"),
]
SiteAction = Annotated[Pause | Resume | Drain | Stop, Field(discriminator="do")]


class WorkerFilter(Inbound):
    """Selects workers: those that match all that is given; at least one field must be given.

    Attributes:
        label: `key=value`, or `key` for any value.
        text: Part of the name, the site, the host or a label.
    """

    site: SiteName | None = None
    queue: QueueName | None = None
    state: WorkerState | None = None
    label: SearchText | None = None
    text: SearchText | None = None


class WorkerActionRequest(Inbound):
    """Acts on workers.

    Attributes:
        workers: Their names; or `where`, or `all`: one of them.
        all: Every worker within the caller's scope, without the revoked ones.
        dry_run: Only say what would change.
    """

    action: WorkerAction
    workers: tuple[WorkerName, ...] | None = Field(default=None, min_length=1, max_length=MAX_TARGETS)
    where: WorkerFilter | None = None
    all: bool = False
    reason: Reason
    dry_run: bool = False


class SiteActionRequest(Inbound):
    """Acts on all workers of sites, also on those that enrol later."""

    action: SiteAction
    sites: tuple[SiteName, ...] = Field(min_length=1, max_length=1000)
    reason: Reason
    dry_run: bool = False


class QueueId(Inbound):
    """Names a queue."""

    queue: QueueName
    team: TeamName | None = None


class SetQueueSettings(Inbound):
    """Changes the settings of a queue; None returns a setting to its default, a field that is left out stays."""

    do: Literal["set"]
    tolerance_s: float | None = Field(default=None, ge=MIN_TOLERANCE_S, le=MAX_TOLERANCE_S)
    timeout_s: float | None = Field(default=None, gt=0, le=366 * 86400)
    kinds: tuple[JobKind, ...] | None = Field(default=None, min_length=1, max_length=len(JobKind))
    max_running: int | None = Field(default=None, ge=1, le=1_000_000)


QueueAction = Annotated[Pause | Resume | SetQueueSettings, Field(discriminator="do")]


class QueueActionRequest(Inbound):
    """Acts on queues."""

    action: QueueAction
    queues: tuple[QueueId, ...] = Field(min_length=1, max_length=1000)
    reason: Reason
    dry_run: bool = False


class Cancel(Inbound):
    """Ends jobs in any state."""

    do: Literal["cancel"]


class Redrive(Inbound):
    """Publishes parked jobs again."""

    do: Literal["redrive"]


class Purge(Inbound):
    """Ends parked jobs and removes their history."""

    do: Literal["purge"]


JobAction = Annotated[Cancel | Redrive | Purge, Field(discriminator="do")]


class JobFilter(Inbound):
    """Selects unfinished jobs: those that match all that is given; at least one field must be given."""

    queue: QueueName | None = None
    worker: WorkerName | None = None
    dag_id: str | None = Field(default=None, max_length=250)
    run_id: str | None = Field(default=None, max_length=250)
    parked: bool | None = None


class JobActionRequest(Inbound):
    """Acts on jobs.

    Attributes:
        jobs: Their ids; or `where`, not both.
    """

    action: JobAction
    jobs: tuple[JobId, ...] | None = Field(default=None, min_length=1, max_length=MAX_TARGETS)
    where: JobFilter | None = None
    reason: Reason
    dry_run: bool = False


class ActionFailure(Outbound):
    """A target that an action could not change."""

    target: str
    code: str
    detail: str


class ActionResult(Outbound):
    """What an action did.

    Attributes:
        changed: Targets that it changed, or would change if it is a dry run; at most 1,000 are listed.
        changed_count: How many there are.
        unchanged_count: Those that were already as wanted.
        failures: At most 1,000 are listed.
        absent: Queues among the targets that do not exist yet: the action counts as soon as they do. The name may be
            mistyped.
    """

    changed: tuple[str, ...] = ()
    changed_count: int = 0
    unchanged_count: int = 0
    failures: tuple[ActionFailure, ...] = ()
    failure_count: int = 0
    absent: tuple[str, ...] = ()
    dry_run: bool = False
