"""How long no poll has named a job, by a clock that stands still while nobody could have been heard.

Pure: time comes in. Contact is the arrival of a poll, which a relay writes into the worker's entry.
"""

from edge_schemas.wire.polls import RELAY_BEAT_S

MISSED_BEATS = 3
AWAY_AFTER_S = MISSED_BEATS * RELAY_BEAT_S
"""Without a sign of life of any relay for so long, workers can't be heard. Shorter than the shortest tolerance."""
CLOCK_DIFFERENCE_S = 5.0
"""What a relay's date may be off by. A keeper that has just started knows silences by such dates only, and takes them
to be shorter by this: late by seconds is better than early."""


class ContactClock:
    """Silence about jobs, in monotonic seconds.

    Somebody can be heard while NATS is connected and any relay shows signs of life: its beat, or the arrival of a
    poll. Otherwise silence stands still, from the last sign of life on, and when somebody can be heard again it counts
    from zero. At the keeper's own start it counts from before that only as far as workers could be heard by a relay.
    """

    def __init__(self) -> None:
        self._heard: dict[str, float] = {}
        self._connected = False
        self._hearing = False
        self._began = 0
        self._hearing_since = 0.0
        self._last_sign = 0.0
        self._floor = 0.0

    def tick(self, now: float, *, connected: bool) -> None:
        """Say about once a second whether NATS is connected."""
        self._connected = connected
        self._settle(now)

    def relay_lives(self, now: float, *, serving_for_s: float) -> None:
        """A beat arrived of a relay that has served workers for so long, by its own clock."""
        self._take_sign(now)
        if self._began == 1:
            # Not after an outage: whoever could not be heard has all of its tolerance once more.
            self._floor = min(self._floor, now - max(0.0, serving_for_s - CLOCK_DIFFERENCE_S))

    def heard(self, job: str, now: float) -> None:
        """A poll that names this job has just arrived, so a relay lives."""
        self._take_sign(now)
        self._heard[job] = now

    def heard_before(self, job: str, now: float, *, age_s: float) -> None:
        """The last poll that names this job arrived so long ago, by the relay's clock."""
        at = now - max(0.0, age_s - CLOCK_DIFFERENCE_S)
        self._heard[job] = max(at, self._heard.get(job, at))

    def forget(self, job: str) -> None:
        """Nobody asks for this job any more."""
        self._heard.pop(job, None)

    @property
    def hears(self) -> bool:
        """Whether workers could be heard when the clock was last looked at."""
        return self._hearing

    def silent_for(self, job: str, now: float) -> float:
        """Seconds of silence that count; about a job never heard of, since anybody could be heard."""
        self._settle(now)
        if not self._began:
            return 0.0
        since = max(self._heard.get(job, self._hearing_since), self._floor)
        return max(0.0, (now if self._hearing else self._last_sign) - since)

    def _settle(self, now: float) -> None:
        if not self._connected or now - self._last_sign > AWAY_AFTER_S:
            self._hearing = False

    def _take_sign(self, now: float) -> None:
        self._settle(now)
        self._connected = True  # else it would not have come
        self._last_sign = now
        if not self._hearing:
            self._hearing = True
            self._began += 1
            self._hearing_since = self._floor = now
