"""Silence is judged only while somebody could have been heard."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from edge_bridge.keeper.contact import AWAY_AFTER_S, CLOCK_DIFFERENCE_S, ContactClock, Hold
from edge_schemas.wire.offline import MIN_TOLERANCE_S
from edge_schemas.wire.worker_entry import RELAY_BEAT_S

HOLD = ("w", "job")


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
                self.clock.record_relay(self.now, serving_for_s=self.now - self.serving_since)

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
    centre.clock.record_earlier_contact(HOLD, 0, age_s=3600)
    centre.go_on(5000, relay=False)
    assert centre.silence() == 0


def test_an_entry_found_at_the_start_is_as_old_as_it_says_where_relays_served_all_the_while() -> None:
    centre = Centre(serving_since=-10_000)
    centre.clock.record_earlier_contact(HOLD, 0, age_s=600)
    centre.go_on(10)
    assert centre.silence() == 610 - CLOCK_DIFFERENCE_S


def test_a_centre_that_was_down_as_a_whole_gives_everybody_time() -> None:
    """NATS, relays and keepers were away for an hour; the relays came back ten seconds before this keeper."""
    centre = Centre(serving_since=-10)
    centre.clock.record_earlier_contact(HOLD, 0, age_s=3600)
    centre.go_on(8)
    assert centre.silence() == 18 - CLOCK_DIFFERENCE_S


def test_of_several_relays_the_one_that_served_longest_counts() -> None:
    """A rolling restart of the relays while this keeper is new must not make silences shorter than they are."""
    clock = ContactClock()
    clock.tick(0, connected=True)
    clock.record_earlier_contact(HOLD, 0, age_s=600)
    clock.record_relay(1, serving_for_s=3)
    assert clock.silent_for(HOLD, 1) < 10
    clock.record_relay(2, serving_for_s=5000)
    clock.record_relay(3, serving_for_s=1)
    assert clock.silent_for(HOLD, 3) == 603 - CLOCK_DIFFERENCE_S


def test_clocks_that_differ_by_seconds_make_no_silence_longer_than_it_is() -> None:
    """The relay's clock is four seconds behind the keeper's, or ahead."""
    for behind_s in (4, -4):
        centre = Centre()
        centre.clock.record_relay(0, serving_for_s=1000 + behind_s)
        centre.clock.record_earlier_contact(HOLD, 0, age_s=2 + behind_s)
        assert centre.silence() <= 2


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
    centre.clock.record_relay(3610, serving_for_s=3610)
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


@given(worlds(), st.integers(0, SECONDS - 1), st.integers(-4, 4))
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
            clock.record_earlier_contact(HOLD, now, age_s=now - last_poll + skew)
        elif called:
            clock.record_contact(HOLD, now)
        if serving_since is not None and now % RELAY_BEAT_S == 0:
            clock.record_relay(now, serving_for_s=now - serving_since + skew)
        before, silence = silence, clock.silent_for(HOLD, now)
        if silence > MIN_TOLERANCE_S >= before:
            span = slice(max(0, now - int(MIN_TOLERANCE_S) + 1), now + 1)
            up_then = [nats and relay for nats, relay in zip(world.nats[span], world.relay[span], strict=True)]
            assert not any(up and calls for up, calls in zip(up_then, world.calls[span], strict=True))
            assert all(world.nats[span])
            assert _longest_gap(world.relay[span]) <= AWAY_AFTER_S


def _longest_gap(up: list[bool]) -> int:
    return max(sum(1 for _ in group) if not is_up else 0 for is_up, group in groupby(up))
