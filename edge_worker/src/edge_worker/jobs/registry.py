"""The worker's jobs and its slots, in memory. No I/O."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from edge_schemas.wire.jobs import Job
from edge_schemas.wire.polls import MAX_SLOTS
from edge_schemas.wire.worker_report import JobPhase, JobReport
from edge_worker.state.job_dir import JobDir

MAX_JOBS = 2 * MAX_SLOTS
"""As many as a poll may name."""
SHUT_DOWN = "the worker is being shut down"
"""The reason for which a worker that leaves ends its jobs."""


@dataclass(frozen=True)
class StopWish:
    """Why a job is to end.

    Attributes:
        drop: Nothing is reported of it.
        gives_back: The job itself has no part in it: if its user code never ran it may run elsewhere.
    """

    reason: str
    drop: bool = False
    gives_back: bool = False


class LocalJob:
    """A job that the worker was granted and has not settled yet.

    Attributes:
        receipt: Of the latest grant; a message that was delivered again brings a newer one.
        phase: Where it stands; changed by `JobRegistry` only.
        stop: Set once somebody wants it to end.
        stop_wanted: Set together with `stop`.
        frozen: Set while the worker cannot be sure that it still holds the job. Nothing of it runs or begins then.
        not_frozen: The opposite.
        frozen_because: Why it was frozen the last time, for people.
        gone: No process of the job is left.
        final_state: The state that Airflow accepted from the task. Nobody kills the job after that.
        final_write_begun: A final state is on its way to Airflow.
        no_final_write: The opposite. A stop waits for it: such a write decides how the task ended.
    """

    def __init__(self, job: Job, job_dir: JobDir, *, receipt: str = "", phase: JobPhase = JobPhase.GRANTED) -> None:
        self.job = job
        self.dir = job_dir
        self.receipt = receipt
        self.phase = phase
        self.stop: StopWish | None = None
        self.stop_wanted = asyncio.Event()
        self.frozen = asyncio.Event()
        self.not_frozen = asyncio.Event()
        self.not_frozen.set()
        self.frozen_because = ""
        self.gone = asyncio.Event()
        self.final_state: str | None = None
        self.final_write_begun = asyncio.Event()
        self.no_final_write = asyncio.Event()
        self.no_final_write.set()
        self._final_writes = 0

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    def is_stopping(self) -> bool:
        """It is to end, and nothing speaks against ending it now."""
        return self.stop is not None and self.final_state is None and self._final_writes == 0

    def want_stop(self, wish: StopWish) -> None:
        """Somebody wants the job to end. The first reason stands; a later `drop` is added to it."""
        if self.stop is None:
            self.stop = wish
        elif wish.drop:
            self.stop = replace(self.stop, drop=True)
        self.stop_wanted.set()

    @property
    def is_frozen(self) -> bool:
        """See `frozen`."""
        return self.frozen.is_set()

    def freeze(self, because: str) -> None:
        """The worker cannot be sure any more that it holds the job."""
        self.frozen_because = because
        self.frozen.set()
        self.not_frozen.clear()

    def thaw(self) -> None:
        """The centre has said that it does, or that the job has ended well."""
        self.frozen.clear()
        self.not_frozen.set()

    @contextmanager
    def final_write(self) -> Iterator[None]:
        """While a final state is being delivered."""
        self._final_writes += 1
        self.final_write_begun.set()
        self.no_final_write.clear()
        try:
            yield
        finally:
            self._final_writes -= 1
            if self._final_writes == 0:
                self.final_write_begun.clear()
                self.no_final_write.set()


class JobRegistry:
    """All jobs of the worker.

    Args:
        slots: How many jobs may have a process at once.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.is_draining = False
        self._jobs: dict[str, LocalJob] = {}
        self._unread: set[str] = set()
        self._closed_for: dict[str, str] = {}
        self._listeners: list[Callable[[], None]] = []

    def __iter__(self) -> Iterator[LocalJob]:
        return iter(list(self._jobs.values()))

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, job_id: str) -> LocalJob | None:
        """The job, if the worker has to do with it."""
        return self._jobs.get(job_id)

    @property
    def free(self) -> int:
        """How many jobs it would take now."""
        if self.is_draining or self._closed_for:
            return 0
        # Outcomes that the relay does not take yet hold no slot, but a poll has room for only so many jobs.
        return max(0, min(self.slots - self._occupied, MAX_JOBS - len(self._jobs) - len(self._unread)))

    @property
    def _occupied(self) -> int:
        return sum(job.phase is not JobPhase.FINISHING for job in self._jobs.values()) + len(self._unread)

    def refusal(self) -> str | None:
        """Why it would take no job; None if it would."""
        if self.is_draining:
            return "the worker is draining"
        if self._closed_for:
            return self.closed_because
        return None if self.free else "all slots are taken"

    @property
    def closed_because(self) -> str | None:
        """What keeps it from taking any job, besides draining and jobs that it has."""
        return next(iter(self._closed_for.values()), None)

    def reports(self) -> tuple[JobReport, ...]:
        """What a poll says of the jobs."""
        known = (JobReport(id=job.id, phase=job.phase, offline=job.job.offline) for job in self._jobs.values())
        return (*known, *(JobReport(id=job_id, phase=JobPhase.RUNNING) for job_id in sorted(self._unread)))

    @property
    def unread(self) -> frozenset[str]:
        """Jobs of which nothing is known but the id, for their folders cannot be read. A process of theirs may live."""
        return frozenset(self._unread)

    def add_unread(self, job_id: str) -> None:
        """Keeps a job reported whose folder cannot be read now."""
        self._unread.add(job_id)

    def forget_unread(self, job_id: str) -> None:
        """The folder can be read, or is gone."""
        self._unread.discard(job_id)

    def add(self, job: LocalJob) -> None:
        """The worker now has to do with this job."""
        self._jobs[job.id] = job

    def running(self, job: LocalJob) -> None:
        """The start was confirmed. No reason for a poll of its own."""
        job.phase = JobPhase.RUNNING

    def finishing(self, job: LocalJob) -> None:
        """The job's process is gone and its slot is free; the caller decides when to tell."""
        job.phase = JobPhase.FINISHING
        job.gone.set()

    def forget(self, job: LocalJob) -> None:
        """The job is settled, or was never this worker's."""
        if self._jobs.pop(job.id, None) is not None:
            self.changed()

    def close_intake(self, cause: str, why: str) -> bool:
        """Takes no jobs until `open_intake` is called for the same cause. True if that is news."""
        is_news = cause not in self._closed_for
        if is_news:
            self._closed_for[cause] = why
            self.changed()
        return is_news

    def open_intake(self, cause: str) -> None:
        """This cause is over."""
        if self._closed_for.pop(cause, None) is not None:
            self.changed()

    def drain(self) -> None:
        """Takes no jobs any more; one way only."""
        if not self.is_draining:
            self.is_draining = True
            self.changed()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Calls `listener` whenever the relay should hear of something at once."""
        self._listeners.append(listener)

    def changed(self) -> None:
        """Something has changed that the relay should know."""
        for listener in self._listeners:
            listener()
