"""How many jobs of each queue were started in the last second or two. Pure.

Where jobs are short, slots become free faster than relays report them. So messages for the next half second are stored
ahead: a job of high priority is behind no more than these.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_S = 1.0


@dataclass(slots=True)
class _Windows:
    """Starts in this window and in the one before."""

    since: float
    starts: int = 0
    before: int = 0


class StartRate:
    """The starts of each queue.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._queues: dict[tuple[str | None, str], _Windows] = {}

    def started(self, team: str | None, queue: str) -> None:
        """A job of this queue was started."""
        windows = self._queues.setdefault((team, queue), _Windows(self._clock()))
        self._move(windows)
        windows.starts += 1

    def per_s(self, team: str | None, queue: str) -> int:
        """Starts in a second, as of the better of the last two windows."""
        windows = self._queues.get((team, queue))
        if windows is None:
            return 0
        self._move(windows)
        return max(windows.starts, windows.before)

    def _move(self, windows: _Windows) -> None:
        passed = self._clock() - windows.since
        if passed >= WINDOW_S:
            windows.before = windows.starts if passed < 2 * WINDOW_S else 0
            windows.starts = 0
            windows.since += passed - passed % WINDOW_S
