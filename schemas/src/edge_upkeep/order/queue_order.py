"""Holds back the messages of waiting jobs, and decides which job gets its message next. No I/O.

Where an operator has set `max_running` for a queue, no more than so many of its jobs have a message or run. Each
executor counts its own jobs, and relays the submitted ones: each of them publishes up to the limit, and relays let no
more jobs start. Auxiliary jobs count, but do not wait for others.

What is in NATS can't be put in another order. So of the jobs of a kind in a queue only as many have a message as there
are free slots of workers that accept the kind, and a few more, so that a slot that becomes free finds one at once; the
others are held here in their order. Jobs of one kind wait for none of another kind, except where `max_running` leaves
room for one of them only: then the one of the lowest rank is next.
"""

import heapq
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from edge_broker.subjects import consumer_name
from edge_schemas.wire.jobs import JobKind
from edge_upkeep.order.demand import Demand
from edge_upkeep.order.rank import Rank, is_always_first

AHEAD_OF_STARTED = 4
"""One message more for this many started jobs: where many run, many slots may become free in the same moment."""
STUCK_S = 5.0
"""A message that nobody has started for so long, while slots are free, is not deliverable at the moment."""


class Waiting(Protocol):
    """What has to be known of a waiting job."""

    @property
    def id(self) -> str:
        """The job's."""

    @property
    def team(self) -> str | None:
        """None where there are no teams."""

    @property
    def queue(self) -> str:
        """The queue's plain name."""

    @property
    def kind(self) -> JobKind:
        """What it is."""

    @property
    def published_at(self) -> datetime:
        """When it was handed out or submitted."""


J = TypeVar("J", bound=Waiting)

Queue = tuple[str | None, str]
"""Team and plain name."""


@dataclass(frozen=True, slots=True)
class WaitingJobs:
    """The waiting jobs of one queue.

    Attributes:
        held: How many have no message.
        oldest: When the oldest of all was handed out.
    """

    queue: str
    held: int
    oldest: datetime


@dataclass(slots=True)
class _Line:
    """The waiting jobs of one kind in a queue.

    Attributes:
        consumer: The name of their consumer.
        heap: Jobs without a message by rank; those that have left are skipped.
        behind: When each of them was handed out.
        held: Those of them that may get a message: they have a record.
        out: Jobs with a message, oldest message first: when it was published, monotonic, and the job handed out.
        uncounted: Those of them that keep no other message back: auxiliary jobs, which are always first, and jobs that
            are not deliverable, for instance because a worker has released them.
    """

    team: str | None
    queue: str
    kind: JobKind
    consumer: str
    heap: list[tuple[Rank, int, str]] = field(default_factory=list)
    behind: dict[str, datetime] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    out: dict[str, tuple[float, datetime]] = field(default_factory=dict)
    uncounted: set[str] = field(default_factory=set)

    def oldest(self) -> datetime | None:
        """When the oldest waiting job was handed out; may be called in any thread."""
        out = (handed_out for _, handed_out in list(self.out.values()))
        return min([*self.behind.values(), *out], default=None)

    def first(self) -> Rank | None:
        """The rank of the job that is next, if it has a record."""
        while self.heap and self.heap[0][2] not in self.behind:
            heapq.heappop(self.heap)
        return self.heap[0][0] if self.heap and self.heap[0][2] in self.held else None

    def send_first(self, now: float) -> str:
        """The job that is next gets its message now."""
        rank, _, job = heapq.heappop(self.heap)
        self.held.remove(job)
        self.out[job] = (now, self.behind.pop(job))
        if is_always_first(rank):
            self.uncounted.add(job)
        return job

    def forget_message(self, job: str) -> None:
        """The job has no message any more."""
        del self.out[job]
        self.uncounted.discard(job)

    def stop_counting(self, before: float) -> None:
        """Messages that were published before this moment keep no others back."""
        self.uncounted.update(job for job, (published, _) in self.out.items() if published < before)

    def compact(self) -> None:
        """Remove what has left from the heap, before it is most of it."""
        if len(self.heap) > 2 * len(self.behind) + 64:
            self.heap = [one for one in self.heap if one[2] in self.behind]
            heapq.heapify(self.heap)


class _Lines:
    """The waiting jobs of all queues, by queue and kind."""

    def __init__(self) -> None:
        self._queues: dict[Queue, dict[JobKind, _Line]] = {}

    def queues(self) -> list[Queue]:
        """Those with waiting jobs."""
        return list(self._queues)

    def of(self, queue: Queue) -> dict[JobKind, _Line]:
        """Of a queue; empty if no job of it waits."""
        return self._queues.get(queue, {})

    def at(self, queue: Queue, kind: JobKind) -> _Line:
        """Of a kind in a queue; a new one if there is none."""
        of_queue = self._queues.setdefault(queue, {})
        line = of_queue.get(kind)
        if line is None:
            line = of_queue[kind] = _Line(*queue, kind, consumer_name(*queue, kind))
        return line

    def remove(self, line: _Line) -> None:
        """Its last job has left."""
        of_queue = self._queues[line.team, line.queue]
        del of_queue[line.kind]
        if not of_queue:
            del self._queues[line.team, line.queue]


class QueueOrder(Generic[J]):
    """The waiting jobs of all queues of an executor, or all that were submitted.

    Args:
        rank: Of a job; the lowest is first.
        demand: The free slots.
        started: How many jobs of a queue of a team run.
        ahead: How many messages more than free slots a queue may have at least.
        clock: Monotonic seconds.
        most: How many jobs of a queue may be published or run at once; None for no limit.
    """

    def __init__(
        self,
        rank: Callable[[J], Rank],
        demand: Demand,
        started: Callable[[str | None, str], int],
        ahead: Callable[[str | None, str], int],
        *,
        clock: Callable[[], float] = time.monotonic,
        most: Callable[[str | None, str], int | None] = lambda *_: None,
    ) -> None:
        self._rank = rank
        self._demand = demand
        self._most = most
        self._started = started
        self._ahead = ahead
        self._clock = clock
        self._lines = _Lines()
        self._line_of: dict[str, _Line] = {}
        self._changed: set[Queue] = set()
        self._arrivals = 0
        self._held = 0

    @property
    def held(self) -> int:
        """How many jobs are held back."""
        return self._held

    def waiting(self) -> Iterator[WaitingJobs]:
        """The waiting jobs of each queue that has some. May be called in any thread."""
        for queue in self._lines.queues():
            lines = list(self._lines.of(queue).values())
            oldest = [one for line in lines if (one := line.oldest()) is not None]
            if oldest:
                yield WaitingJobs(queue[1], sum(len(line.held) for line in lines), min(oldest))

    def expect(self, job: J) -> None:
        """This job waits and gets a record now; until it has one, no job behind it gets a message."""
        self.leave(job.id)
        line = self._line(job)
        self._arrivals += 1
        heapq.heappush(line.heap, (self._rank(job), self._arrivals, job.id))
        line.behind[job.id] = job.published_at

    def hold(self, job: J) -> None:
        """This job waits, has a record and no message."""
        if job.id not in self._line_of:
            self.expect(job)
        line = self._line(job)
        if job.id in line.behind and job.id not in line.held:
            line.held.add(job.id)
            self._held += 1

    def has_message(self, job: J, *, was_released: bool) -> None:
        """This job waits and has a message, perhaps published by another process or released by a worker."""
        line = self._line(job)
        if job.id not in line.behind:
            line.out.setdefault(job.id, (self._clock(), job.published_at))
            if was_released or is_always_first(self._rank(job)):
                line.uncounted.add(job.id)

    def found_message(self, job: J, *, was_released: bool) -> None:
        """A message of this job was found in the stream, even if it is held back here."""
        if job.id in self._line(job).held:
            self.leave(job.id)
        self.has_message(job, was_released=was_released)

    def with_message(self, team: str | None, queue: str, kind: JobKind) -> list[str]:
        """The waiting jobs of a kind in a queue that have a message, as far as is known here."""
        line = self._lines.of((team, queue)).get(kind)
        return [] if line is None else list(line.out)

    def leave(self, job: str) -> bool:
        """This job waits no longer; whether its message was held back."""
        line = self._line_of.pop(job, None)
        if line is None:
            return False
        was_held = job in line.held
        if line.behind.pop(job, None) is not None:
            line.held.discard(job)
            self._held -= was_held
            line.compact()
        else:
            line.forget_message(job)
            self._demand.taken(line.consumer)
        self._changed.add((line.team, line.queue))
        if not line.behind and not line.out:
            self._lines.remove(line)
        return was_held

    def due(self) -> list[str]:
        """The jobs that get their message now, in order; they count as having one from here on.

        Considers the queues that have changed since the last call.
        """
        changed, self._changed = self._changed, set()
        return [job for queue in changed for job in self._due(queue, self._lines.of(queue))]

    def due_at_all(self) -> list[str]:
        """The same for all queues: the demand is new."""
        self._changed.update(self._lines.queues())
        return self.due()

    def _due(self, queue: Queue, lines: Mapping[JobKind, _Line]) -> Iterator[str]:
        left = self._left(queue, lines)
        rooms = {kind: self._room(line) for kind, line in lines.items()}
        while ready := [
            (rank, kind)
            for kind, line in lines.items()
            if (rank := line.first()) is not None and (is_always_first(rank) or min(left, rooms[kind]) > 0)
        ]:
            rank, kind = min(ready)
            yield lines[kind].send_first(self._clock())
            self._held -= 1
            left -= 1
            rooms[kind] -= not is_always_first(rank)

    def _room(self, line: _Line) -> int:
        """How many jobs of a kind may get a message, were there no limit of the queue."""
        if self._demand.free_for_s(line.consumer) >= STUCK_S:
            line.stop_counting(self._clock() - STUCK_S)
        ahead = max(self._ahead(line.team, line.queue), self._started(line.team, line.queue) // AHEAD_OF_STARTED)
        return self._demand.free(line.consumer) + ahead - len(line.out) + len(line.uncounted)

    def _left(self, queue: Queue, lines: Mapping[JobKind, _Line]) -> float:
        """How many jobs of all kinds may get a message or run besides those that do."""
        most = self._most(*queue)
        return math.inf if most is None else most - self._started(*queue) - sum(len(one.out) for one in lines.values())

    def ended(self, team: str | None, queue: str) -> None:
        """A started job of this queue has ended: where a limit counts it, another one may be due."""
        if self._most(team, queue) is not None:
            self._changed.add((team, queue))

    def _line(self, job: J) -> _Line:
        queue = job.team, job.queue
        self._changed.add(queue)
        line = self._line_of[job.id] = self._lines.at(queue, job.kind)
        return line
