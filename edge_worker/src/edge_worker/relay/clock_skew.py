"""How far this machine's clock is from the relay's, by the `Date` of its answers: good to about a second."""

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

LONGEST_TRIP_S = 5.0
"""Of a call that took longer nobody knows on which half of the way it did."""
_HALF_A_SECOND = 0.5
"""The header has whole seconds: the clock it was taken from was half a second further, on average."""


class ClockSkew:
    """The newest measurement.

    Attributes:
        seconds: This machine's clock minus the relay's; None until the relay has told its time.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._way_s = 0.0
        self.seconds: float | None = None

    def heard(self, date: str | None, trip_s: float | None) -> None:
        """The relay has just answered.

        Args:
            date: The answer's header.
            trip_s: How long the call took; None if the relay held it on purpose: then the way back took as long as that
                of the last call that was not held.
        """
        if trip_s is not None:
            if trip_s > LONGEST_TRIP_S:
                return
            self._way_s = trip_s / 2
        told = _unix_time(date)
        if told is not None:
            self.seconds = round(self._clock() - self._way_s - told - _HALF_A_SECOND, 1)


def _unix_time(date: str | None) -> float | None:
    try:
        return None if date is None else parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None  # something on the way has written it
