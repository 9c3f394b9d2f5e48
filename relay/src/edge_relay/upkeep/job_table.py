"""The unfinished submitted jobs, as the relay's watch of all records shows them. It may be behind: records decide."""

import asyncio
from collections import Counter
from collections.abc import Callable

from edge_broker.record_mover import RecordMover
from edge_broker.records import may_have_terms
from edge_relay.upkeep.submitted_job import HELD, SubmittedJob, submitted_job
from edge_schemas.life.model import JobState

OnChange = Callable[[SubmittedJob | None, SubmittedJob | None], None]
"""A job before and after a change of its record; None if it is not known, or not unfinished."""
OnNeverStarted = Callable[[SubmittedJob], None]
"""A job that has ended while it may have had a message."""

Stage = tuple[str, str, str]
"""Team, empty where there is none, queue, and the state or "dead" for a parked job."""


class JobTable:
    """Call `apply` with each record.

    Args:
        mover: Gets the ids of ended submitted jobs.

    Attributes:
        present: Set while there is a submitted job, unfinished or not moved yet.
        counts: The unfinished jobs by stage.
    """

    def __init__(self, mover: RecordMover) -> None:
        self.present = asyncio.Event()
        self.counts: Counter[Stage] = Counter()
        self._mover = mover
        self._jobs: dict[str, SubmittedJob] = {}
        self._on_change: list[OnChange] = []
        self._on_never_started: list[OnNeverStarted] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, job: str) -> SubmittedJob | None:
        """A job that has not ended; None for others."""
        return self._jobs.get(job)

    def on_change(self, listener: OnChange) -> None:
        """Call `listener` at each change of an unfinished job."""
        self._on_change.append(listener)

    def on_never_started(self, listener: OnNeverStarted) -> None:
        """Call `listener` with each job that has ended and may have left a message."""
        self._on_never_started.append(listener)

    def started(self, team: str | None, queue: str) -> int:
        """How many jobs of a queue have a holder."""
        return sum(self.counts[team or "", queue, state.value] for state in HELD)

    def apply(self, job: str, value: bytes | None) -> None:
        """The record of any job, or None if it has left the bucket."""
        before = self._jobs.get(job)
        if value is None:
            self._mover.discard(job)
        elif before is None and not may_have_terms(value):
            return
        after = None if value is None else submitted_job(job, value)
        if after is not None:
            self.present.set()
        if after is not None and after.state is JobState.ENDED:
            self._mover.add(job)
            self._change(job, before, None)
            if before is not None and before.may_have_message and after.holder is None:
                for on_never_started in self._on_never_started:
                    on_never_started(before)
        else:
            self._change(job, before, after)

    def clear_if_empty(self) -> bool:
        """Whether nothing is left to look after; `present` is cleared then."""
        if not self._jobs and not len(self._mover):
            self.present.clear()
        return not self.present.is_set()

    def _change(self, job: str, before: SubmittedJob | None, after: SubmittedJob | None) -> None:
        if before is None and after is None:
            return
        if after is None:
            del self._jobs[job]
        else:
            self._jobs[job] = after
            self.counts[stage(after)] += 1
        if before is not None:
            self.counts[stage(before)] -= 1
        for on_change in self._on_change:
            on_change(before, after)


def stage(job: SubmittedJob) -> Stage:
    """Where a job is counted."""
    state = "dead" if job.is_parked and job.state is JobState.WAITING else job.state.value
    return job.team or "", job.queue, state
