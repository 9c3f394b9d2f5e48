"""How long no poll of its holder has named a job, by a clock that stands still while contact is impossible.

Pure: time comes in as an argument. Contact is the arrival of a poll, which a relay writes into the worker's entry.
"""

from dataclasses import dataclass
from datetime import datetime

from edge_schemas.wire.worker_entry import RelayBeat
from edge_upkeep.contact.relay_clocks import AWAY_AFTER_S, RelayClocks

Hold = tuple[str, str]
"""A worker and a job. What one worker reports is no contact for a job that another worker holds."""


@dataclass(frozen=True, slots=True)
class _Undated:
    """A stored contact until a beat of its relay tells how old it is.

    Attributes:
        found: In monotonic seconds; until then the contact counts as if it was made when it was found.
        at: By the clock of the relay.
    """

    found: float
    relay: str
    at: datetime


class ContactClock:
    """Silence of workers about jobs, in monotonic seconds.

    Contact is possible while NATS is connected and any relay shows signs of life: its relay beat, or the arrival of a
    poll. Otherwise silence stands still, from the last sign of life on, and when contact is possible again it counts
    from zero. At the keeper's own start, earlier silence counts only as far back as a relay has served workers, and
    only for a worker whose relay sends beats: its beats tell how old the last poll is.

    Attributes:
        relays: What the clocks of the relays show.
    """

    def __init__(self) -> None:
        self.relays = RelayClocks()
        self._contacts: dict[Hold, float] = {}
        self._undated: dict[Hold, _Undated] = {}
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

    def record_beat(self, now: float, beat: RelayBeat) -> None:
        """A relay beat has just arrived."""
        was_known = self.relays.serving_since(beat.relay) is not None
        self.record_sign(now)
        self.relays.record(beat, now)
        since = self.relays.serving_since(beat.relay)
        if self._began == 1 and since is not None:
            # Not after an outage: workers that were out of reach get their whole tolerance again.
            self._floor = min(self._floor, since)
        if not was_known:
            for hold, one in [(hold, one) for hold, one in self._undated.items() if one.relay == beat.relay]:
                self.record_stored_contact(hold, now, one.relay, one.at)

    def record_sign(self, now: float) -> None:
        """A relay shows a sign of life."""
        self._update(now)
        self._connected = True  # otherwise the sign would not have arrived
        self._last_sign = now
        if not self._possible:
            self._possible = True
            self._began += 1
            self._possible_since = self._floor = now

    def record_contact(self, hold: Hold, now: float) -> None:
        """A poll of this worker that names this job has just arrived; it is a sign of life of a relay, too."""
        self.record_sign(now)
        self._undated.pop(hold, None)
        self._contacts[hold] = now

    def record_stored_contact(self, hold: Hold, now: float, relay: str, at: datetime) -> None:
        """The last poll of this worker that names this job arrived earlier, at this time by the relay's clock."""
        when = self.relays.when(relay, at)
        if when is None:
            self._undated[hold] = _Undated(now, relay, at)
            return
        self._undated.pop(hold, None)
        self._contacts[hold] = max(min(when, now), self._contacts.get(hold, when))

    def record_undated_contact(self, hold: Hold, now: float) -> None:
        """A call of this worker about this job was found now; it is not known when it arrived."""
        self._undated.pop(hold, None)
        self._contacts[hold] = now

    def forget(self, hold: Hold) -> None:
        """The silence of this worker about this job is no longer of interest."""
        self._contacts.pop(hold, None)
        self._undated.pop(hold, None)

    @property
    def is_possible(self) -> bool:
        """Whether contact was possible when the clock was last updated."""
        return self._possible

    def silent_for(self, hold: Hold, now: float) -> float:
        """Seconds of silence that count; without any contact, since contact has been possible."""
        self._update(now)
        if not self._began:
            return 0.0
        undated = self._undated.get(hold)
        contact = self._contacts.get(hold, self._possible_since) if undated is None else undated.found
        since = max(contact, self._floor)
        return max(0.0, (now if self._possible else self._last_sign) - since)

    def _update(self, now: float) -> None:
        if not self._connected or now - self._last_sign > AWAY_AFTER_S:
            self._possible = False
