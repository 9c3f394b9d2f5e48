"""What the causes are computed from."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from edge_schemas.admin.desired import AvailabilityOrder, DesiredQueue
from edge_schemas.wire.workers import WorkerState


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that a worker holds.

    Attributes:
        name: Of its task, as `task_text` writes it.
        since: When the worker started it.
    """

    name: str
    since: datetime


@dataclass(frozen=True, slots=True)
class ServingWorker:
    """A worker that serves the job's queue, by its last poll and by what operators have set.

    Attributes:
        state: Never `revoked`: such a worker serves no queue.
        order: The order that counts, its own or its site's.
        free: Further jobs that it can take.
        last_poll_at: None if it has never polled.
        airflow: Airflow's version in its runtime, if it has reported it.
        auxiliary: The kinds of auxiliary jobs that it accepts.
        kinds: The other kinds that it accepts; a task if it reports none.
        running: The jobs that it holds, as far as they are known.
        granted: The jobs that it was granted and has not started, by its own report.
    """

    name: str
    site: str
    state: WorkerState
    order: AvailabilityOrder | None = None
    order_of_site: bool = False
    slots: int = 0
    free: int = 0
    last_poll_at: datetime | None = None
    no_jobs_reason: str | None = None
    conflict_since: datetime | None = None
    airflow: str | None = None
    auxiliary: Collection[str] = ()
    kinds: Collection[str] = ("task",)
    running: tuple[RunningJob, ...] = ()
    granted: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Position:
    """The place of a waiting job in its queue.

    Attributes:
        ahead: Waiting jobs that come before it.
        heavier: Those of them with a higher `priority_weight`.
    """

    ahead: int
    heavier: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFacts:
    """The job's queue now.

    Attributes:
        desired: What operators have set for it.
        running: Its jobs that have started and not ended; None if that is not known.
        position: Of the job; None if that is not known.
        waiting: Waiting jobs of the queue; needed only where no position is known.
        has_message: Whether the job has a message in NATS; None if that is not known.
        consumer_paused: An operator of NATS has paused the queue's consumer.
        group_ahead: Of a job with a group: an earlier one of the group that has not ended, by its name.
    """

    desired: DesiredQueue = field(default_factory=DesiredQueue)
    running: int | None = None
    position: Position | None = None
    waiting: int | None = None
    has_message: bool | None = None
    consumer_paused: bool = False
    group_ahead: str | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that decides about a waiting job besides its record.

    Attributes:
        workers: Those that serve its queue.
        hidden: How many further workers serve it at sites that the caller may not see.
    """

    workers: tuple[ServingWorker, ...]
    queue: QueueFacts = field(default_factory=QueueFacts)
    hidden: int = 0
