"""Jobs of one group run one after the other: the first of each group. Pure.

The order is that in which the watch of the records shows new jobs, which is the same for all replicas: that of their
creation. A redriven job is new. A job that was offered before this replica saw it was the first one.
"""

import heapq
from dataclasses import dataclass, field

from edge_relay.upkeep.submitted_job import GroupKey

_FIRST = 0


@dataclass(slots=True)
class _Group:
    numbers: dict[str, int] = field(default_factory=dict)
    heap: list[tuple[int, str]] = field(default_factory=list)

    def put(self, job: str, number: int) -> None:
        self.numbers[job] = number
        heapq.heappush(self.heap, (number, job))

    def first(self) -> str | None:
        while self.heap:
            number, job = self.heap[0]
            if self.numbers.get(job) == number:
                return job
            heapq.heappop(self.heap)
        return None


class Groups:
    """The unfinished jobs of each group that are not parked."""

    def __init__(self) -> None:
        self._groups: dict[GroupKey, _Group] = {}
        self._arrivals = _FIRST

    def join(self, key: GroupKey, job: str, *, was_offered: bool) -> None:
        """The job is in this group from now on; nothing changes if it is already."""
        group = self._groups.setdefault(key, _Group())
        if job not in group.numbers:
            self._arrivals += 1
            group.put(job, _FIRST if was_offered else self._arrivals)

    def put_first(self, key: GroupKey, job: str) -> None:
        """A message of this job was found: another replica has seen that it is the first one."""
        group = self._groups.get(key)
        if group is not None and group.numbers.get(job, _FIRST) != _FIRST:
            group.put(job, _FIRST)

    def leave(self, key: GroupKey, job: str) -> None:
        """The job keeps no other one waiting."""
        group = self._groups.get(key)
        if group is None:
            return
        group.numbers.pop(job, None)
        if not group.numbers:
            del self._groups[key]

    def first(self, key: GroupKey) -> str | None:
        """The job of this group that may run."""
        group = self._groups.get(key)
        return None if group is None else group.first()
