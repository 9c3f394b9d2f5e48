"""The time of what a replica knows: it goes on only as far as polls are proven to arrive.

A connection proves nothing: it stands for half a minute before a frozen server or a black hole. A proof is an answer to
a write of the replica itself, and dates from when the write was sent.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

LONGEST_GAP_S = 5.0
"""A longer time between two proofs is an outage and does not count as silence. Shorter than a third of any contact."""


class FleetClock:
    """Measures the silence of workers, and how old the replica's knowledge is.

    Before the first proof it is an ordinary clock.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._proven_at: float | None = None
        self._outages_s = 0.0

    def record_proof(self, at: float) -> None:
        """A poll could have been stored at this moment, in monotonic seconds; this replica would know of it."""
        if self._proven_at is not None and at - self._proven_at > LONGEST_GAP_S:
            self._outages_s += at - self._proven_at
        self._proven_at = at

    def now(self) -> float:
        """The last proven moment. A worker has been silent until then, as far as is known."""
        return (self._clock() if self._proven_at is None else self._proven_at) - self._outages_s

    def received_at(self) -> float:
        """When an entry that arrives now was received: not before `now()`, so that no silence is overestimated."""
        now = self._clock()
        return (now if self._proven_at is None else min(now, self._proven_at + LONGEST_GAP_S)) - self._outages_s

    def as_of(self) -> datetime:
        """The last proven moment by the wall clock: nothing that is known is older."""
        age_s = 0.0 if self._proven_at is None else max(0.0, self._clock() - self._proven_at)
        return datetime.now(UTC) - timedelta(seconds=age_s)
