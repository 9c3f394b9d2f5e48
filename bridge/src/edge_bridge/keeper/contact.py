"""How long no poll of its holder has named a job, by a clock that stands still while contact is impossible.

Pure: time comes in as an argument. Contact is the arrival of a poll, which a relay writes into the worker's entry.
"""

from edge_schemas.wire.worker_entry import RELAY_BEAT_S

MISSED_BEATS = 3
AWAY_AFTER_S = MISSED_BEATS * RELAY_BEAT_S
"""After this time without a sign of life of any relay, contact is impossible. Shorter than the shortest tolerance."""
CLOCK_DIFFERENCE_S = 5.0
"""By how much the date of a relay may be wrong. A keeper that has just started knows silences by such dates only, and
counts them as shorter by this: seconds too late is better than too early."""


Hold = tuple[str, str]
"""A worker and a job. What one worker reports is no contact for a job that another worker holds."""


class ContactClock:
    """Silence of workers about jobs, in monotonic seconds.

    Contact is possible while NATS is connected and any relay shows signs of life: its relay beat, or the arrival of a
    poll. Otherwise silence stands still, from the last sign of life on, and when contact is possible again it counts
    from zero. At the keeper's own start, earlier silence counts only as far back as a relay has served workers.
    """

    def __init__(self) -> None:
        self._contacts: dict[Hold, float] = {}
        self._connected = False
        self._possible = False
        self._began = 0
        self._possible_since = 0.0
        self._last_sign = 0.0
        self._floor = 0.0

    def tick(self, now: float, *, connected: bool) -> None:
        """Report at least once a second whether NATS is connected."""
        self._connected = connected
        self._update(now)

    def record_relay(self, now: float, *, serving_for_s: float) -> None:
        """A relay beat arrived from a relay that has served workers for so long, by its own clock."""
        self._record_sign(now)
        if self._began == 1:
            # Not after an outage: workers that were out of reach get their whole tolerance again.
            self._floor = min(self._floor, now - max(0.0, serving_for_s - CLOCK_DIFFERENCE_S))

    def record_contact(self, hold: Hold, now: float) -> None:
        """A poll of this worker that names this job has just arrived; it is a sign of life of a relay, too."""
        self._record_sign(now)
        self._contacts[hold] = now

    def record_earlier_contact(self, hold: Hold, now: float, *, age_s: float) -> None:
        """The last poll of this worker that names this job arrived so long ago, by the relay's clock."""
        at = now - max(0.0, age_s - CLOCK_DIFFERENCE_S)
        self._contacts[hold] = max(at, self._contacts.get(hold, at))

    def forget(self, hold: Hold) -> None:
        """The silence of this worker about this job is no longer of interest."""
        self._contacts.pop(hold, None)

    @property
    def is_possible(self) -> bool:
        """Whether contact was possible when the clock was last updated."""
        return self._possible

    def silent_for(self, hold: Hold, now: float) -> float:
        """Seconds of silence that count; without any contact, since contact has been possible."""
        self._update(now)
        if not self._began:
            return 0.0
        since = max(self._contacts.get(hold, self._possible_since), self._floor)
        return max(0.0, (now if self._possible else self._last_sign) - since)

    def _update(self, now: float) -> None:
        if not self._connected or now - self._last_sign > AWAY_AFTER_S:
            self._possible = False

    def _record_sign(self, now: float) -> None:
        self._update(now)
        self._connected = True  # otherwise the sign would not have arrived
        self._last_sign = now
        if not self._possible:
            self._possible = True
            self._began += 1
            self._possible_since = self._floor = now
