"""What this executor has handed out and what is known of it.

Lives in the portal's loop: only code that runs there changes it. `started` alone is read by the scheduler's thread.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from time import monotonic

from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.jobs import AuxiliaryJob, TaskIdentity

STARTED = frozenset({JobState.RUNNING, JobState.STOPPING})


class Verb(Enum):
    """What the scheduler's thread is to do with a report."""

    SUCCEED = auto()
    FAIL = auto()
    FORGET = auto()
    """The task needs no event (any more)."""
    NOTE = auto()
    """Leave a line in Airflow's audit log."""
    RUN = auto()
    """An auxiliary job was started. A task says that by itself."""
    FOLLOW = auto()
    """An auxiliary job of a scheduler that is gone is ours from here on."""


@dataclass(frozen=True, slots=True)
class Report:
    """Something for the scheduler's thread. Only FOLLOW counts where `job` is not the current dispatch of `key`."""

    key: Hashable
    job: str
    verb: Verb
    info: str | None = None


@dataclass(slots=True)
class Entry:
    """One dispatch.

    Attributes:
        key: Airflow's own key, never looked into.
        job: The job's id; a made-up one if the dispatch was refused because it has none.
        dispatch: The task's `external_executor_id` as Airflow has it; an auxiliary job's own id.
        task: The task instance; None for an auxiliary job.
        auxiliary: The auxiliary job; None for a task.
        state: Of the newest record seen; None if none was seen, or it is gone.
        releases: How often the job was given back.
        waits_since: Since when nobody has taken the job, while it waits.
        report: What Airflow was told when the dispatch was over, and when; repeated should it get lost.
        since: Monotonic seconds.
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

    def update(self, record: JobRecord) -> None:
        """Take over what a record says."""
        self.queue, self.team = record.queue, record.team
        self.state, self.parked, self.releases = record.state, record.parked, len(record.releases)
        self.waits_since = record.waits_since


class DispatchTable:
    """The dispatches of this executor that Airflow may still want to hear of."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._started: set[str] = set()

    @property
    def started(self) -> int:
        """How many jobs run at a worker."""
        return len(self._started)

    def add(self, entries: Iterable[Entry]) -> None:
        """Begin to follow dispatches."""
        for entry in entries:
            self._entries[entry.job] = entry

    def get(self, job: str) -> Entry | None:
        """The entry of a job of ours."""
        return self._entries.get(job)

    def drop(self, job: str) -> None:
        """Stop following a dispatch."""
        self._entries.pop(job, None)
        self._started.discard(job)

    def select(self, wanted: Callable[[Entry], bool]) -> list[Entry]:
        """The entries that are wanted, oldest first."""
        return [entry for entry in self._entries.values() if wanted(entry)]

    def take(self, entry: Entry, record: JobRecord | None) -> None:
        """Note the newest record of an entry, or that it is gone."""
        if record is None:
            entry.state = None
        else:
            entry.update(record)
        if entry.state in STARTED:
            self._started.add(entry.job)
        else:
            self._started.discard(entry.job)
