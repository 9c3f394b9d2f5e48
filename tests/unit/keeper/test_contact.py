"""Silence is judged only while the keeper could have heard somebody."""

from edge_bridge.keeper.contact import ContactClock


def test_silence_counts_from_the_last_poll() -> None:
    clock = ContactClock()
    clock.tick(0, connected=True)
    clock.heard("w", 10)
    assert clock.silent_for("w", 40) == 30
    clock.heard("w", 41)
    assert clock.silent_for("w", 45) == 4


def test_an_entry_found_at_the_start_is_as_old_as_it_says() -> None:
    clock = ContactClock()
    clock.tick(0, connected=True)
    clock.heard("w", 1, age_s=600)
    assert clock.silent_for("w", 1) == 600


def test_a_relay_whose_clock_is_ahead_gives_no_credit() -> None:
    clock = ContactClock()
    clock.tick(0, connected=True)
    clock.heard("w", 1, age_s=-300)
    assert clock.silent_for("w", 11) == 10


def test_silence_stands_still_without_a_broker_and_begins_anew_with_it() -> None:
    clock = ContactClock()
    clock.tick(0, connected=True)
    clock.heard("w", 0)
    clock.tick(100, connected=False)
    assert clock.silent_for("w", 5000) == 100
    clock.tick(6000, connected=True)
    assert clock.silent_for("w", 6001) == 1


def test_a_worker_never_heard_of_is_silent_since_the_connection() -> None:
    clock = ContactClock()
    assert clock.silent_for("w", 50) == 0
    clock.tick(60, connected=True)
    assert clock.silent_for("w", 70) == 10
