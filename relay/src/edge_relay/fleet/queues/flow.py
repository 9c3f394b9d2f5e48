"""How many jobs came into each queue and ended there, in periods of ten seconds, by the watch of the records."""

import time
from collections.abc import Callable

from edge_relay.dispatch.state.record_mirror import RecordMirror
from edge_relay.dispatch.state.watched_job import WatchedJob

PERIOD_S = 10
PERIODS = 60
MAX_QUEUES = 2_000
"""Of the queues beyond, those that were idle longest are forgotten."""

QueueKey = tuple[str | None, str]
"""Team and name."""


class _Ring:
    """Counts of the last periods."""

    __slots__ = ("counts", "last")

    def __init__(self) -> None:
        self.counts = [0] * PERIODS
        self.last = 0

    def add(self, period: int) -> None:
        self._advance(period)
        if period > self.last - PERIODS:
            self.counts[period % PERIODS] += 1

    def read(self, period: int) -> tuple[int, ...]:
        """Of all periods up to this one, the newest last."""
        self._advance(period)
        return tuple(self.counts[number % PERIODS] for number in range(self.last - PERIODS + 1, self.last + 1))

    def _advance(self, period: int) -> None:
        for number in range(max(self.last + 1, period - PERIODS + 1), period + 1):
            self.counts[number % PERIODS] = 0
        self.last = max(self.last, period)


class Flow:
    """Counts for as long as the replica runs: 60 numbers for a queue.

    A job counts as come when its record was created, also one that was listed later, and as ended when this replica saw
    it end.
    """

    def __init__(self, mirror: RecordMirror, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._mirror = mirror
        self._come: dict[QueueKey, _Ring] = {}
        self._gone: dict[QueueKey, _Ring] = {}
        mirror.on_record(self._count)

    def come(self, queue: QueueKey) -> tuple[int, ...]:
        """Jobs that came in each period, the newest last."""
        return self._read(self._come, queue)

    def gone(self, queue: QueueKey) -> tuple[int, ...]:
        """Jobs that ended in each period, the newest last."""
        return self._read(self._gone, queue)

    def queues(self) -> set[QueueKey]:
        """Queues in which a job came or ended in these periods."""
        return {queue for rings in (self._come, self._gone) for queue in list(rings) if any(self._read(rings, queue))}

    def _read(self, rings: dict[QueueKey, _Ring], queue: QueueKey) -> tuple[int, ...]:
        ring = rings.get(queue)
        return (0,) * PERIODS if ring is None else ring.read(int(self._now()) // PERIOD_S)

    def _count(self, before: WatchedJob | None, after: WatchedJob | None) -> None:
        if before is None and after is not None:
            self._add(self._come, (after.team, after.queue), after.created_at)
        elif after is None and before is not None and self._mirror.is_current:
            self._add(self._gone, (before.team, before.queue), self._now())

    def _add(self, rings: dict[QueueKey, _Ring], queue: QueueKey, at: float) -> None:
        now = self._now()
        if at <= now - PERIOD_S * PERIODS:
            return
        ring = rings.get(queue)
        if ring is None:
            if len(rings) >= MAX_QUEUES:
                del rings[min(rings, key=lambda one: rings[one].last)]
            ring = rings[queue] = _Ring()
        # A clock that runs ahead must not empty the ring.
        ring.add(min(int(at), int(now)) // PERIOD_S)
