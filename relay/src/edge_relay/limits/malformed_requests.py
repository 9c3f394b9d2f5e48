"""Requests that are no HTTP: counted, and logged once in a while, because any stranger can send them."""

import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

LOG_EVERY_S = 60.0


class MalformedRequests:
    """Counts them.

    Args:
        count: Called for each one.
        clock: In seconds.
    """

    def __init__(self, count: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._clock = clock
        self._unlogged = 0
        self._next_log_at = clock()

    def record(self) -> None:
        """One has arrived."""
        self._count()
        self._unlogged += 1
        if self._clock() >= self._next_log_at:
            log.warning("requests_malformed", requests=self._unlogged)
            self._unlogged = 0
            self._next_log_at = self._clock() + LOG_EVERY_S
