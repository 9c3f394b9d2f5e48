"""Silence is judged only while somebody could have been heard."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_schemas.wire.offline import MIN_TOLERANCE_S
from edge_schemas.wire.worker_entry import CLOCK_STEP_S, RELAY_BEAT_S, RelayBeat
from edge_upkeep.contact.contact_clock import ContactClock, Hold
from edge_upkeep.contact.relay_clocks import AWAY_AFTER_S

HOLD = ("w", "job")
RELAY = "relay-1"
BEGINNING = datetime(2026, 11, 22, 12, tzinfo=UTC)


def instant(seconds: float) -> datetime:
    """A moment by the clock of a relay, in seconds since an arbitrary beginning."""
    return BEGINNING + timedelta(seconds=seconds)


def beat(at: float, *, serving_for_s: float, relay: str = RELAY) -> RelayBeat:
    return RelayBeat(relay=relay, serving_since=instant(at - serving_for_s), at=instant(at))


class Centre:
    """A clock with a relay that beats, second by second."""

    def __init__(self, *, began: float = 0, serving_since: float | None = None) -> None:
        self.clock = ContactClock()
        self.serving_since = began if serving_since is None else serving_since
        self.now = began
        self.clock.tick(began, connected=True)

    def go_on(self, until: float, *, nats: bool = True, relay: bool = True) -> None:
        while self.now < until:
            self.now += 1
            self.clock.tick(self.now, connected=nats)
            if nats and relay and self.now % RELAY_BEAT_S == 0:
                self.clock.record_beat(self.now, beat(self.now, serving_for_s=self.now - self.serving_since))

    def silence(self, hold: Hold = HOLD) -> float:
        return self.clock.silent_for(hold, self.now)


def test_the_shortest_tolerance_outlasts_the_wait_for_a_relay() -> None:
    """Else a relay that dies right after a poll would cost that worker's jobs before it is known to be away."""
    assert AWAY_AFTER_S < MIN_TOLERANCE_S


def test_silence_counts_from_the_last_poll() -> None:
    centre = Centre()
    centre.go_on(10)
    centre.clock.record_contact(HOLD, 10)
    centre.go_on(40)
    assert centre.silence() == 30
    centre.clock.record_contact(HOLD, 41)
    centre.go_on(45)
    assert centre.silence() == 4
    assert centre.clock.is_possible


def test_nobody_is_silent_before_a_relay_was_heard() -> None:
    centre = Centre()
    centre.clock.record_stored_contact(HOLD, 0, RELAY, instant(-3600))
    centre.go_on(5000, relay=False)
    assert centre.silence() == 0


def test_an_entry_found_at_the_start_is_as_old_as_it_says_where_relays_served_all_the_while() -> None:
    centre = Centre(serving_since=-10_000)
    centre.clock.record_stored_contact(HOLD, 0, RELAY, instant(-600))
    centre.go_on(10)
    assert centre.silence() == 610 - CLOCK_STEP_S


def test_a_centre_that_was_down_as_a_whole_gives_everybody_time() -> None:
    """NATS, relays and keepers were away for an hour; the relays came back ten seconds before this keeper."""
    centre = Centre(serving_since=-10)
    centre.clock.record_stored_contact(HOLD, 0, RELAY, instant(-3600))
    centre.go_on(8)
    assert centre.silence() == 18 - CLOCK_STEP_S


def test_of_several_relays_the_one_that_served_longest_counts() -> None:
    """A rolling restart of the relays while this keeper is new must not make silences shorter than they are."""
    clock = ContactClock()
    clock.tick(0, connected=True)
    clock.record_stored_contact(HOLD, 0, "long", instant(-600))
    clock.record_beat(1, beat(1, serving_for_s=3))
    assert clock.silent_for(HOLD, 1) < 10
    clock.record_beat(2, beat(2, serving_for_s=5000, relay="long"))
    clock.record_beat(3, beat(3, serving_for_s=1))
    assert clock.silent_for(HOLD, 3) == 603 - CLOCK_STEP_S


OFFSETS_S = (-86_400, -70, -36, -6, 0, 6, 36, 70, 86_400)


@pytest.mark.parametrize("ahead_s", OFFSETS_S)
@pytest.mark.parametrize("is_beat_first", [True, False])
def test_the_clock_of_a_relay_may_be_off_by_any_time_when_the_keeper_starts(ahead_s: int, is_beat_first: bool) -> None:
    """The beat tells what the relay's clock shows; the poll arrived 20 s before."""
    clock = ContactClock()
    clock.tick(100, connected=True)
    stored, arriving = instant(80 + ahead_s), beat(100 + ahead_s, serving_for_s=5000)
    if is_beat_first:
        clock.record_beat(100, arriving)
    clock.record_stored_contact(HOLD, 100, RELAY, stored)
    if not is_beat_first:
        clock.record_beat(100, arriving)
    assert clock.silent_for(HOLD, 100) == 20 - CLOCK_STEP_S
    clock.record_beat(102, beat(102 + ahead_s, serving_for_s=5002))
    assert clock.silent_for(HOLD, 103) == 23 - CLOCK_STEP_S
    clock.record_contact(HOLD, 104)
    assert clock.silent_for(HOLD, 105) == 1


@pytest.mark.parametrize(("one_s", "other_s"), [(a, b) for a in OFFSETS_S for b in OFFSETS_S if a != b])
def test_each_relay_dates_by_its_own_clock(one_s: int, other_s: int) -> None:
    clock, other_hold = ContactClock(), ("v", "job")
    clock.tick(100, connected=True)
    clock.record_beat(100, beat(100 + one_s, serving_for_s=5000))
    clock.record_stored_contact(HOLD, 100, RELAY, instant(80 + one_s))
    clock.record_stored_contact(other_hold, 100, "relay-2", instant(60 + other_s))
    assert clock.silent_for(other_hold, 101) == 1, "no beat of its relay tells how old the poll is"
    clock.record_beat(101, beat(101 + other_s, serving_for_s=5000, relay="relay-2"))
    assert (clock.silent_for(HOLD, 101), clock.silent_for(other_hold, 101)) == (21 - CLOCK_STEP_S, 41 - CLOCK_STEP_S)
    assert clock.relays.earliest(101) == instant(101 + min(one_s, other_s))


def test_a_late_beat_makes_no_silence_longer() -> None:
    clock = ContactClock()
    clock.tick(100, connected=True)
    clock.record_stored_contact(HOLD, 100, RELAY, instant(80))
    clock.record_beat(105, beat(100, serving_for_s=5000))
    assert clock.silent_for(HOLD, 105) == 20 - CLOCK_STEP_S


def test_a_poll_from_before_the_service_of_its_relay_is_as_old_as_this_service() -> None:
    """The relay's clock was set since, or another process with the relay's name stored the time."""
    clock = ContactClock()
    clock.tick(100, connected=True)
    clock.record_beat(100, beat(100, serving_for_s=5000, relay="relay-2"))
    clock.record_stored_contact(HOLD, 100, RELAY, instant(-3600))
    clock.record_beat(100, beat(100, serving_for_s=8))
    assert clock.silent_for(HOLD, 100) == 8 - CLOCK_STEP_S


def test_a_relay_that_sends_no_beats_any_more_tells_no_time() -> None:
    clock = ContactClock()
    clock.record_beat(0, beat(0, serving_for_s=10, relay="gone"))
    clock.record_beat(AWAY_AFTER_S + 1, beat(50, serving_for_s=10))
    assert clock.relays.earliest(AWAY_AFTER_S + 1) == instant(50)
    assert clock.relays.differences_s(AWAY_AFTER_S + 1, instant(20)) == {RELAY: 30}
    assert clock.relays.earliest(3 * AWAY_AFTER_S) is None


def test_what_is_found_after_a_gap_in_the_watch_is_contact_until_it_is_dated() -> None:
    """Contact was possible all the while: the silence before the gap must not count."""
    clock, start = ContactClock(), ("v", "job")
    clock.tick(0, connected=True)
    clock.record_beat(0, beat(0, serving_for_s=10))
    clock.record_contact(HOLD, 0)
    for now in range(2, 40, 2):
        clock.record_beat(now, beat(now, serving_for_s=10 + now))
    clock.record_stored_contact(HOLD, 38, "relay-2", instant(25))
    clock.record_undated_contact(start, 38)
    assert (clock.silent_for(HOLD, 39), clock.silent_for(start, 39)) == (1, 1)
    clock.record_beat(39, beat(39, serving_for_s=100, relay="relay-2"))
    assert clock.silent_for(HOLD, 39) == 14 - CLOCK_STEP_S


def test_nothing_is_kept_of_a_poll_that_no_beat_has_dated() -> None:
    clock = ContactClock()
    clock.record_stored_contact(HOLD, 0, "gone", instant(-10))
    clock.forget(HOLD)
    assert not clock._undated


def silence_after_outage(away: Callable[[Centre], None]) -> tuple[float, float]:
    centre = Centre()
    centre.go_on(4)
    centre.clock.record_contact(HOLD, 4)
    centre.go_on(100)
    away(centre)
    during = centre.silence()
    assert not centre.clock.is_possible
    centre.go_on(6000)
    return during, centre.silence()


def test_silence_stands_still_without_nats_and_begins_again_with_it() -> None:
    assert silence_after_outage(lambda centre: centre.go_on(5000, nats=False)) == (96, 6000 - 5002)


def test_silence_stands_still_without_a_relay_and_begins_again_with_one() -> None:
    """From the relay's last beat on, although its absence is known three beats later."""
    assert silence_after_outage(lambda centre: centre.go_on(5000, relay=False)) == (96, 6000 - 5002)


def test_a_keeper_that_stood_still_itself_hears_before_it_judges() -> None:
    """It was stopped for an hour; what arrived meanwhile is read after it judges, or a beat before the polls."""
    centre = Centre()
    centre.go_on(10)
    centre.clock.record_contact(HOLD, 10)
    assert centre.clock.silent_for(HOLD, 3610) == 0
    centre.clock.record_beat(3610, beat(3610, serving_for_s=3610))
    assert centre.clock.silent_for(HOLD, 3611) == 1


def test_a_poll_is_a_sign_of_a_relay_too() -> None:
    """Beats are core messages, which may be lost."""
    centre = Centre()
    centre.go_on(2)
    centre.clock.record_contact(HOLD, 2)
    while centre.now < 30:
        centre.go_on(centre.now + 5, relay=False)
        centre.clock.record_contact(("v", "job"), centre.now)
    assert centre.silence(HOLD) == centre.now - 2


def test_a_worker_never_heard_of_is_silent_since_the_keeper_hears() -> None:
    centre = Centre(serving_since=-10_000)
    centre.go_on(12)
    assert centre.silence() == 10


@dataclass
class World:
    """What happens in each second: which parts are up, and whether the worker calls."""

    nats: list[bool]
    relay: list[bool]
    calls: list[bool]


SECONDS = 60


def spans(draw: st.DrawFn) -> list[bool]:
    """Up and down by turns, so that there are long spans of both."""
    found: list[bool] = []
    up = draw(st.booleans())
    while len(found) < SECONDS:
        found += [up] * draw(st.integers(1, 30))
        up = not up
    return found[:SECONDS]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    return World(spans(draw), spans(draw), spans(draw))


@given(worlds(), st.integers(0, SECONDS - 1), st.integers(-4000, 4000))
def test_nobody_is_given_up_who_might_have_called_in_vain(world: World, born: int, skew: int) -> None:
    """However parts come and go, whenever this keeper starts, and though clocks differ.

    Through a tolerance that is over the worker did not call, NATS was there, and a relay was never missed for long.
    """
    clock = ContactClock()
    last_poll = serving_since = None
    silence = 0.0
    for now in range(SECONDS):
        up = world.nats[now] and world.relay[now]
        serving_since = None if not up else now if serving_since is None else serving_since
        called = up and world.calls[now]
        last_poll = now if called else last_poll
        if now < born:
            continue
        clock.tick(now, connected=world.nats[now])
        if now == born and last_poll is not None:
            clock.record_stored_contact(HOLD, now, RELAY, instant(last_poll + skew))
        elif called:
            clock.record_contact(HOLD, now)
        if serving_since is not None and now % RELAY_BEAT_S == 0:
            clock.record_beat(now, beat(now + skew, serving_for_s=now - serving_since))
        before, silence = silence, clock.silent_for(HOLD, now)
        if silence > MIN_TOLERANCE_S >= before:
            span = slice(max(0, now - int(MIN_TOLERANCE_S) + 1), now + 1)
            up_then = [nats and relay for nats, relay in zip(world.nats[span], world.relay[span], strict=True)]
            assert not any(up and calls for up, calls in zip(up_then, world.calls[span], strict=True))
            assert all(world.nats[span])
            assert _longest_gap(world.relay[span]) <= AWAY_AFTER_S


def _longest_gap(up: list[bool]) -> int:
    return max(sum(1 for _ in group) if not is_up else 0 for is_up, group in groupby(up))
