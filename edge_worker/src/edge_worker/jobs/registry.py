"""The worker's jobs and its slots, in memory. No I/O."""

from collections.abc import Callable, Iterator
from typing import Generic, Protocol

from typing_extensions import TypeVar

from edge_schemas.wire.jobs import Job
from edge_schemas.wire.polls import MAX_SLOTS
from edge_schemas.wire.worker_report import JobPhase, JobReport
from edge_worker.jobs.driver import JobDriver

MAX_JOBS = 2 * MAX_SLOTS
"""The limit of a poll."""


class HeldJob(Protocol):
    """What is known of each job that the worker was granted."""

    @property
    def id(self) -> str:
        """The job's id."""

    @property
    def job(self) -> Job:
        """As it was granted."""

    @property
    def phase(self) -> JobPhase:
        """As polls report it."""

    @property
    def uses_slot(self) -> bool:
        """Whether another job has to wait for it."""


class JobTable(Protocol):
    """What the loops of an agent use of a registry, whatever its jobs are."""

    @property
    def slots(self) -> int:
        """How many jobs may run at once."""

    @property
    def free(self) -> int:
        """How many jobs are accepted now."""

    @property
    def is_draining(self) -> bool:
        """See `JobRegistry`."""

    @property
    def closed_because(self) -> str | None:
        """See `JobRegistry`."""

    @property
    def unread(self) -> frozenset[str]:
        """See `JobRegistry`."""

    def __iter__(self) -> Iterator[HeldJob]:
        """The jobs."""

    def __len__(self) -> int:
        """Their number."""

    def reports(self) -> tuple[JobReport, ...]:
        """See `JobRegistry`."""

    def close_intake(self, cause: str, why: str) -> bool:
        """See `JobRegistry`."""

    def open_intake(self, cause: str) -> None:
        """See `JobRegistry`."""

    def drain(self) -> None:
        """See `JobRegistry`."""

    def follow_order(self, why: str | None, *, drains: bool = False) -> None:
        """See `JobRegistry`."""

    def set_slots(self, slots: int) -> None:
        """See `JobRegistry`."""

    def on_change(self, listener: Callable[[], None]) -> None:
        """See `JobRegistry`."""


HeldJobT = TypeVar("HeldJobT", bound=HeldJob, default=JobDriver)


class JobRegistry(Generic[HeldJobT]):
    """All jobs of the worker.

    Args:
        slots: How many jobs may have a process at once; it may change.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._is_leaving = False
        self._ordered: str | None = None
        self._drains_by_order = False
        self._jobs: dict[str, HeldJobT] = {}
        self._unread: set[str] = set()
        self._closed_for: dict[str, str] = {}
        self._listeners: list[Callable[[], None]] = []

    def __iter__(self) -> Iterator[HeldJobT]:
        return iter(list(self._jobs.values()))

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, job_id: str) -> HeldJobT | None:
        """The job, if the worker has it."""
        return self._jobs.get(job_id)

    @property
    def is_draining(self) -> bool:
        """Whether the agent exits once its jobs have ended."""
        return self._is_leaving or self._drains_by_order

    @property
    def free(self) -> int:
        """How many jobs the worker accepts now."""
        if self.is_draining or self._ordered or self._closed_for:
            return 0
        # Jobs whose outcome is not yet accepted by the relay use no slot, but the number of jobs in a poll is limited.
        return max(0, min(self.slots - self._occupied, MAX_JOBS - len(self._jobs) - len(self._unread)))

    @property
    def _occupied(self) -> int:
        return sum(job.uses_slot for job in self._jobs.values()) + len(self._unread)

    def refusal(self) -> str | None:
        """Why the worker accepts no job; None if it accepts one."""
        if self.is_draining:
            return "the worker is draining"
        if self._ordered:
            return self._ordered
        if self._closed_for:
            return self.closed_because
        return None if self.free else "all slots are taken"

    @property
    def closed_because(self) -> str | None:
        """Why the worker itself has closed its intake; None if it is open. The centre knows its own orders."""
        return next(iter(self._closed_for.values()), None)

    def reports(self) -> tuple[JobReport, ...]:
        """The jobs as a poll reports them."""
        known = (JobReport(id=job.id, phase=job.phase, offline=job.job.offline) for job in self._jobs.values())
        return (*known, *(JobReport(id=job_id, phase=JobPhase.RUNNING) for job_id in sorted(self._unread)))

    @property
    def unread(self) -> frozenset[str]:
        """Jobs of which only the id is known, because their folders cannot be read. Their processes may still run."""
        return frozenset(self._unread)

    def add_unread(self, job_id: str) -> None:
        """Report a job whose folder cannot be read now."""
        self._unread.add(job_id)

    def forget_unread(self, job_id: str) -> None:
        """The folder can be read, or no longer exists."""
        self._unread.discard(job_id)

    def add(self, job: HeldJobT) -> None:
        """The worker now has this job."""
        self._jobs[job.id] = job

    def forget(self, job: HeldJobT) -> None:
        """The job is finished, or never was this worker's. A later tenure of the same job stays."""
        if self._jobs.get(job.id) is job:
            del self._jobs[job.id]
            self.changed()

    def close_intake(self, cause: str, why: str) -> bool:
        """Accept no jobs until `open_intake` is called for the same cause. True if this cause is new."""
        is_new = cause not in self._closed_for
        if is_new:
            self._closed_for[cause] = why
            self.changed()
        return is_new

    def open_intake(self, cause: str) -> None:
        """This cause is over."""
        if self._closed_for.pop(cause, None) is not None:
            self.changed()

    def drain(self) -> None:
        """Accept no more jobs; cannot be undone."""
        if not self._is_leaving:
            self._is_leaving = True
            self.changed()

    def follow_order(self, why: str | None, *, drains: bool = False) -> None:
        """Accept no jobs for as long as an operator wants so.

        Args:
            why: The reason; None ends it.
            drains: The agent exits once its jobs have ended.
        """
        if (self._ordered, self._drains_by_order) != (why, drains):
            self._ordered, self._drains_by_order = why, drains
            self.changed()

    def set_slots(self, slots: int) -> None:
        """Run this many jobs at once from now on; those that run continue, also if they are more."""
        if slots != self.slots:
            self.slots = slots
            self.changed()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` on each change that must be reported to the relay at once."""
        self._listeners.append(listener)

    def changed(self) -> None:
        """A change must be reported to the relay."""
        for listener in self._listeners:
            listener()
