"""The difference between this machine's clock and the relay's, from the `Date` of answers, good to about a second."""

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

LONGEST_TRIP_S = 5.0
"""Longer calls are not used: it is unknown whether the request or the answer took the time."""
_HALF_A_SECOND = 0.5
"""The header has whole seconds: on average, the relay's clock was half a second further."""


class ClockSkew:
    """The newest measurement.

    Attributes:
        seconds: This machine's clock minus the relay's; None until an answer had a date.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._return_trip_s = 0.0
        self.seconds: float | None = None

    def record(self, date: str | None, trip_s: float | None) -> None:
        """Measures from an answer that has just arrived.

        Args:
            date: The answer's header.
            trip_s: How long the call took; None if the relay delayed the answer on purpose. Its return trip then counts
                as long as that of the last call that was not delayed.
        """
        if trip_s is not None:
            if trip_s > LONGEST_TRIP_S:
                return
            self._return_trip_s = trip_s / 2
        relay_time = _unix_time(date)
        if relay_time is not None:
            self.seconds = round(self._clock() - self._return_trip_s - relay_time - _HALF_A_SECOND, 1)


def _unix_time(date: str | None) -> float | None:
    try:
        return None if date is None else parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None  # a proxy may have written it
