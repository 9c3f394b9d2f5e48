"""The dispatches of this executor and what is known of them.

Lives in the portal's loop: only code that runs there changes it. The scheduler's thread reads `started` and no more.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from time import monotonic

from edge_bridge.airflow.sendable import storable
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.jobs import AuxiliaryJob, JobKind, TaskIdentity

STARTED = frozenset({JobState.RUNNING, JobState.STOPPING})


class Verb(Enum):
    """What the scheduler's thread does with a report."""

    SUCCEED = auto()
    FAIL = auto()
    FORGET = auto()
    """The task needs no event (any longer)."""
    NOTE = auto()
    """Write a line to Airflow's audit log."""
    RUN = auto()
    """An auxiliary job was started. A task reports its start itself."""
    FOLLOW = auto()
    """An auxiliary job of a dead scheduler belongs to this executor from here on."""


@dataclass(frozen=True, slots=True)
class Report:
    """A report for the scheduler's thread. If `job` is not the current dispatch of `key`, only FOLLOW counts.

    Attributes:
        info: The reason; as Airflow's database can store it, whatever a worker wrote.
    """

    key: Hashable
    job: str
    verb: Verb
    info: str | None = None

    def __post_init__(self) -> None:
        if self.info is not None:
            object.__setattr__(self, "info", storable(self.info))


@dataclass(slots=True)
class Entry:
    """One dispatch.

    Attributes:
        key: Airflow's own key; its content does not matter here.
        job: The job's id; a made-up one if the dispatch was refused because it has none.
        dispatch: The task's `external_executor_id` as Airflow has it; an auxiliary job's own id.
        task: The task instance; None for an auxiliary job.
        auxiliary: The auxiliary job; None for a task.
        state: Of the newest record seen; None if none was seen, or it is gone.
        releases: How often the job was released.
        waits_since: Since when the job waits for a worker, while it waits.
        report: The report about the end of the dispatch; repeated if it gets lost.
        reported_at: When the report was handed over; 0 before. Monotonic seconds.
        since: Monotonic seconds.
        unreadable_since: Since when its record can't be read, if it can't. Monotonic seconds.
    """

    key: Hashable
    job: str
    dispatch: str | None
    task: TaskIdentity | None = None
    auxiliary: AuxiliaryJob | None = None
    queue: str | None = None
    team: str | None = None
    state: JobState | None = None
    parked: str | None = None
    releases: int = 0
    waits_since: datetime | None = None
    report: Report | None = None
    reported_at: float = 0.0
    since: float = field(default_factory=monotonic)
    unreadable_since: float | None = None

    @property
    def kind(self) -> JobKind:
        """What the job is."""
        return JobKind.TASK if self.auxiliary is None else JobKind(self.auxiliary.kind.value)

    @property
    def is_waiting(self) -> bool:
        """Whether the job waits for a worker and is not parked, as far as its newest record shows."""
        return self.state is JobState.WAITING and self.parked is None

    def update(self, record: JobRecord) -> None:
        """Copy what matters from a record."""
        self.queue, self.team = record.queue, record.team
        self.state, self.parked, self.releases = record.state, record.parked, len(record.releases)
        self.waits_since = record.waits_since


class DispatchTable:
    """The dispatches of this executor that Airflow may still need a report about."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._started: dict[str, str | None] = {}
        self._started_in: Counter[str | None] = Counter()
        self._on_left: Callable[[str], None] = lambda _: None

    @property
    def started(self) -> int:
        """How many jobs run at a worker."""
        return len(self._started)

    def started_in(self, queue: str) -> int:
        """How many jobs of a queue run at a worker."""
        return self._started_in[queue]

    def on_left(self, callback: Callable[[str], None]) -> None:
        """Call this with each job that waits for no worker any longer; perhaps more than once for the same job.

        It was started, has ended, is parked or gone, or is no longer followed.
        """
        self._on_left = callback

    def add(self, entries: Iterable[Entry]) -> None:
        """Begin to follow dispatches."""
        for entry in entries:
            self._entries[entry.job] = entry

    def get(self, job: str) -> Entry | None:
        """The entry of a job; None if this executor does not follow the job."""
        return self._entries.get(job)

    def drop(self, job: str) -> None:
        """Stop following a dispatch."""
        self._entries.pop(job, None)
        self._not_started(job)
        self._on_left(job)

    def select(self, wanted: Callable[[Entry], bool]) -> list[Entry]:
        """The entries that are wanted, oldest first."""
        return [entry for entry in self._entries.values() if wanted(entry)]

    def update(self, entry: Entry, record: JobRecord | None) -> None:
        """Store the newest record of an entry, or that it is gone."""
        if record is None:
            entry.state = None
        else:
            entry.update(record)
        if entry.state in STARTED:
            if entry.job not in self._started:
                self._started[entry.job] = entry.queue
                self._started_in[entry.queue] += 1
        else:
            self._not_started(entry.job)
        if not entry.is_waiting:
            self._on_left(entry.job)

    def _not_started(self, job: str) -> None:
        if job not in self._started:
            return
        queue = self._started.pop(job)
        self._started_in[queue] -= 1
        if not self._started_in[queue]:
            del self._started_in[queue]
