"""What the answer about a task instance is computed from, as plain values."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """The task's pool, counted as the scheduler counts it.

    Attributes:
        slots: None for a pool without limit.
        used: Of its slots.
        needed: By the task.
        heavier: Scheduled tasks of the pool with a higher weight.
    """

    name: str
    slots: int | None
    used: int
    needed: int
    heavier: int


@dataclass(frozen=True, slots=True)
class Usage:
    """A limit and how much of it is used.

    Attributes:
        name: For people, for example `[core] parallelism`.
    """

    name: str
    used: int
    limit: int

    @property
    def is_reached(self) -> bool:
        """Whether nothing more fits."""
        return self.used >= self.limit


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The task's run and DAG.

    Attributes:
        active: Running runs of the DAG, against `max_active_runs`; None if the run is not queued.
    """

    state: str
    dag_paused: bool
    active: Usage | None = None


@dataclass(frozen=True, slots=True)
class RunVersion:
    """The version of its bundle that a run is pinned to, as Airflow names it."""

    bundle: str
    version: str


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """A task instance.

    Attributes:
        state: None before it is scheduled.
        executor: The name of its executor, its own or the default.
        is_ours: Its executor is one of Edge Relay.
        since: When it came into its state, as far as Airflow stores it.
        pool: None if the pool does not exist; only for a scheduled task, like `limits`.
        limits: Which may hold a scheduled task back, in the order in which the scheduler checks them.
        undone: Upstream tasks that are not done, with their states; or other dependencies that are not met.
        scheduler_seen_at: The last heartbeat of any scheduler.
        scheduler_alive: It is recent enough.
        runs: What its run is pinned to; None for a bundle without versions.
    """

    queue: str
    state: str | None
    try_number: int
    dispatch: str | None
    executor: str
    is_ours: bool
    run: RunFacts
    since: datetime | None = None
    pool_name: str = ""
    pool: PoolFacts | None = None
    limits: tuple[Usage, ...] = ()
    undone: tuple[str, ...] = ()
    scheduler_seen_at: datetime | None = None
    scheduler_alive: bool = True
    runs: RunVersion | None = None
