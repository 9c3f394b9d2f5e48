"""Moments at which something is due for a job. Pure."""

import heapq
from datetime import datetime


class Times:
    """At most one moment for each job."""

    def __init__(self) -> None:
        self._at: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []

    def __len__(self) -> int:
        return len(self._at)

    def set(self, job: str, at: datetime) -> None:
        """Something is due for this job at this moment, and at no other."""
        if self._at.get(job) != at:
            self._at[job] = at
            heapq.heappush(self._heap, (at, job))

    def discard(self, job: str) -> None:
        """Nothing is due for this job."""
        if self._at.pop(job, None) is not None and len(self._heap) > 2 * len(self._at) + 64:
            self._heap = [(at, job) for job, at in self._at.items()]
            heapq.heapify(self._heap)

    def due(self, now: datetime) -> list[str]:
        """The jobs for which something is due by now, in order; they are forgotten."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            at, job = heapq.heappop(self._heap)
            if self._at.get(job) == at:
                del self._at[job]
                found.append(job)
        return found

    @property
    def next_at(self) -> datetime | None:
        """A moment before which nothing is due; None if nothing is."""
        return self._heap[0][0] if self._at else None
