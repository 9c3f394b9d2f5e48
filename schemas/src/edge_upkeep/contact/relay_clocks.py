"""Converts times by the clocks of relays into this keeper's time; no clock has to agree with another one.

Pure: time comes in as an argument. A relay beat says what its relay's clock shows, so the age of what the relay has
stored follows from that clock alone. A beat that arrives late makes this age shorter, never longer.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from edge_schemas.wire.worker_entry import CLOCK_STEP_S, RELAY_BEAT_S, RelayBeat

MISSED_BEATS = 3
AWAY_AFTER_S = MISSED_BEATS * RELAY_BEAT_S
"""After this time without a sign of life of any relay, contact is impossible. Shorter than the shortest tolerance."""


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A relay beat, and when it arrived in monotonic seconds."""

    beat: RelayBeat
    at: float

    def convert(self, time: datetime) -> float:
        """In monotonic seconds, at the latest possible moment."""
        return self.at - max(0.0, (self.beat.at - time).total_seconds() - CLOCK_STEP_S)

    def show(self, now: float) -> datetime:
        """What the relay's clock shows now."""
        return self.beat.at + timedelta(seconds=now - self.at)


class RelayClocks:
    """What the clocks of the relays show from which a beat has arrived within the last seconds."""

    def __init__(self) -> None:
        self._arrived: dict[str, _Arrived] = {}

    def record(self, beat: RelayBeat, now: float) -> None:
        """A relay beat has just arrived. Relays from which none arrives any more are forgotten."""
        self._arrived = {name: one for name, one in self._arrived.items() if now - one.at <= AWAY_AFTER_S}
        self._arrived[beat.relay] = _Arrived(beat, now)

    def serving_since(self, relay: str) -> float | None:
        """Since when a relay has served workers, in monotonic seconds; None if it is not known."""
        arrived = self._arrived.get(relay)
        return None if arrived is None else arrived.convert(arrived.beat.serving_since)

    def when(self, relay: str, time: datetime) -> float | None:
        """A time that a relay has stored, in monotonic seconds; None if its clock is not known.

        An earlier time than the beginning of its service counts as this beginning: the relay's clock was perhaps set
        since, or the time is from an earlier process with another clock.
        """
        arrived = self._arrived.get(relay)
        return None if arrived is None else arrived.convert(max(time, arrived.beat.serving_since))

    def names(self, now: float) -> list[str]:
        """The relays from which a beat has arrived within the last seconds."""
        return [name for name, one in self._arrived.items() if now - one.at <= AWAY_AFTER_S]

    def earliest(self, now: float) -> datetime | None:
        """What the slowest of the relays' clocks shows; None if no clock is known."""
        return min((one.show(now) for one in self._arrived.values() if now - one.at <= AWAY_AFTER_S), default=None)

    def differences_s(self, now: float, keeper_time: datetime) -> dict[str, float]:
        """The clock of each relay minus the keeper's."""
        return {name: (one.show(now) - keeper_time).total_seconds() for name, one in self._arrived.items()}
