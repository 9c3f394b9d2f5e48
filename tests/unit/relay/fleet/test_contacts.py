"""Who is lost and who is back, without a broker."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_relay.fleet.workers.contacts import Contact, Contacts, Event

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TIMEOUT_S, OFFLINE_S = 30.0, 90.0


def contact(name: str, heard_at: float, *, site: str = "plant", age_s: float = 0, left: bool = False) -> Contact:
    return Contact(
        worker=name,
        site=site,
        heard_at=heard_at,
        last_poll_at=NOW + timedelta(seconds=heard_at - age_s),
        age_s=age_s,
        offline_after_s=OFFLINE_S,
        poll_timeout_s=TIMEOUT_S,
        left=left,
    )


def told(events: list[Event]) -> list[tuple[bool, str]]:
    return [(event.lost, event.worker or event.site) for event in events]


class Story:
    """Workers that poll every 30 s, each at its own moment, checked every 5 s."""

    def __init__(self, workers: int, *, began_at: float = 0) -> None:
        self.contacts = Contacts()
        self.heard = {f"w{number}": began_at + number * TIMEOUT_S / workers for number in range(workers)}
        self.now = began_at

    def run(self, seconds: float, *, silent: set[str] = frozenset()) -> list[tuple[bool, str]]:  # type: ignore[assignment]  # an immutable default
        found: list[tuple[bool, str]] = []
        until = self.now + seconds
        while self.now < until:
            self.now += 5
            for name, heard_at in self.heard.items():
                if name not in silent and self.now - heard_at >= TIMEOUT_S:
                    self.heard[name] = self.now
            found += told(
                self.contacts.check([contact(name, min(at, self.now)) for name, at in self.heard.items()], self.now)
            )
        return found


@settings(deadline=None, max_examples=20)
@given(workers=st.integers(1, 40), away_s=st.floats(140, 2000))
def test_a_site_is_one_event_however_many_workers_it_has(workers: int, away_s: float) -> None:
    story = Story(workers)
    everyone = set(story.heard)
    assert story.run(100) == []
    assert story.run(away_s, silent=everyone) == [(True, "plant")]
    assert story.run(200) == [(False, "plant")]


@settings(deadline=None, max_examples=20)
@given(workers=st.integers(2, 40), away_s=st.floats(0, 50))
def test_a_short_cut_is_no_event(workers: int, away_s: float) -> None:
    story = Story(workers)
    story.run(100)
    assert story.run(away_s, silent=set(story.heard)) == []
    assert story.run(200) == []


@settings(deadline=None, max_examples=20)
@given(workers=st.integers(2, 40), dead=st.integers(1, 5))
def test_workers_that_die_are_told_one_by_one(workers: int, dead: int) -> None:
    story = Story(workers)
    gone = {f"w{number}" for number in range(min(dead, workers - 1))}
    story.run(100)
    assert sorted(story.run(200, silent=gone)) == sorted((True, name) for name in gone)
    assert sorted(story.run(200)) == sorted((False, name) for name in gone)


def test_a_worker_that_does_not_return_with_its_site_is_told_then() -> None:
    story = Story(3)
    story.run(100)
    assert story.run(200, silent={"w0", "w1", "w2"}) == [(True, "plant")]
    assert story.run(60, silent={"w2"}) == [(False, "plant")]
    assert story.run(200, silent={"w2"}) == [(True, "w2")]


def test_a_worker_that_drained_has_left_in_order() -> None:
    contacts = Contacts()
    for at in range(0, 200, 10):
        polls = [contact("w0", 0, left=True), contact("w1", at)]
        assert contacts.check(polls, at) == []


def test_who_was_silent_before_the_start_is_told_after_the_whole_time_and_is_back_when_heard() -> None:
    """The event may have been stored before: that is for the stream to know."""
    contacts = Contacts()
    old = contact("w0", 0, age_s=1000)
    assert contacts.check([old], 1) == []
    assert contacts.check([old], OFFLINE_S) == []
    [event] = contacts.check([old], OFFLINE_S + 2)
    assert (event.lost, event.site, event.since) == (True, "plant", NOW - timedelta(seconds=1000))
    assert contacts.check([old], 5000) == []
    back = told(contacts.check([contact("w0", 5001)], 5002))
    assert (False, "plant") in back
