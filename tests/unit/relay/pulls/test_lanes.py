"""Which pulls are open at a consumer: decided without a clock or a network."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_broker.jetstream.consumer import PullStatus
from edge_relay.pulls.lanes import (
    ERROR_DELAY_S,
    EXPIRES_S,
    GRACE_S,
    LANES,
    MAX_BATCH,
    NO_CONSUMER_DELAY_S,
    Lanes,
    Pull,
)


def fresh() -> Lanes:
    return Lanes(random.Random(1))


def ask(lanes: Lanes, wanted: int, now: float = 0.0, *, probe: bool = False) -> list[Pull]:
    return lanes.ask(wanted, now, probe=probe)


def batches(lanes: Lanes, wanted: int, now: float = 0.0) -> list[int]:
    return [pull.batch for pull in ask(lanes, wanted, now)]


def rested(lanes: Lanes) -> int | None:
    """What is known of the queue once nothing is wanted."""
    lanes.rest()
    return lanes.pending


def test_pulls_are_sized_to_the_demand_and_capped() -> None:
    assert batches(fresh(), 7) == [7]
    assert batches(fresh(), 40) == [MAX_BATCH, 40 - MAX_BATCH]


def test_a_thousand_polls_that_come_one_by_one_open_a_handful_of_pulls() -> None:
    lanes, asked = fresh(), []
    for wanted in range(1, 1001):
        asked += ask(lanes, wanted)
    assert len(asked) == LANES


def test_a_thousand_polls_are_served_in_batches() -> None:
    """The pulls of the first polls were small; once filled, each further one covers as many polls as it can."""
    lanes, arrived, asked = fresh(), 0, []
    for wanted in range(1, 1001):
        asked += ask(lanes, wanted)
    while arrived < 500:
        for pull in list(asked[-LANES:]):
            for _ in range(pull.batch):
                lanes.arrived(pull.lane, 1, 0.0)
                arrived += 1
                asked += ask(lanes, 1000)
    assert len(asked) <= 2 * LANES + arrived / MAX_BATCH
    assert lanes.out <= LANES * MAX_BATCH


def test_a_pull_that_ran_out_is_followed_by_the_next() -> None:
    lanes = fresh()
    [pull] = ask(lanes, 5)
    lanes.arrived(pull.lane, 0, 0.0)
    lanes.ended(pull.lane, PullStatus(pull.number, 408, 4), EXPIRES_S)
    assert lanes.out == 0
    assert batches(lanes, 4, EXPIRES_S) == [4]


def test_heartbeats_and_statuses_of_forgotten_pulls_change_nothing() -> None:
    lanes = fresh()
    [old] = ask(lanes, 3)
    lanes.ended(old.lane, PullStatus(old.number, 100), 1.0)
    assert lanes.out == 3
    lanes.forget()
    ask(lanes, 2, 1.0)
    lanes.ended(old.lane, PullStatus(old.number, 408, 3), 1.0)
    assert lanes.out == 2


@pytest.mark.parametrize(
    ("status", "longest_s"), [(503, NO_CONSUMER_DELAY_S), (409, ERROR_DELAY_S), (400, ERROR_DELAY_S)]
)
def test_errors_delay_the_next_pull_more_and_more(status: int, longest_s: float) -> None:
    """A server without a leader answers thousands of pulls a second with 503."""
    lanes, now, delays = fresh(), 0.0, []
    for _ in range(12):
        [pull] = ask(lanes, 1, now)
        lanes.ended(pull.lane, PullStatus(pull.number, status), now)
        assert ask(lanes, 1, now) == []
        assert lanes.is_delayed(now)
        moment = lanes.next_moment(1, now)
        assert moment is not None
        delays.append(moment - now)
        now = moment
    assert delays[0] <= 0.1
    assert longest_s / 2 <= delays[-1] <= longest_s
    assert max(delays) <= longest_s


def test_a_made_consumer_ends_the_back_off() -> None:
    lanes = fresh()
    for _ in range(8):
        for pull in ask(lanes, 1):
            lanes.ended(pull.lane, PullStatus(pull.number, 503), 0.0)
    assert ask(lanes, 1) == []
    lanes.reset_backoff()
    assert batches(lanes, 1) == [1]


def test_a_lost_pull_is_noticed_after_its_end() -> None:
    """The server died: no message, no status."""
    lanes = fresh()
    ask(lanes, 3)
    assert lanes.next_moment(3, 0.0) == EXPIRES_S + GRACE_S
    assert not lanes.overdue(EXPIRES_S + GRACE_S - 0.1)
    assert lanes.overdue(EXPIRES_S + GRACE_S)
    assert not lanes.overdue(0.0)


def test_a_pull_that_was_filled_is_not_taken_for_lost() -> None:
    """A filled pull ends without a status, also when another one is still open."""
    lanes = fresh()
    [pull] = ask(lanes, 3)
    for _ in range(3):
        lanes.arrived(pull.lane, 0, 0.0)
    assert batches(lanes, 2, 5.0) == [2]
    assert not lanes.overdue(EXPIRES_S + GRACE_S)
    assert lanes.out == 2


def test_a_probe_finds_out_whether_jobs_wait_before_a_pull_waits_for_them() -> None:
    lanes = fresh()
    [probe] = ask(lanes, 1, probe=True)
    assert (probe.is_probe, lanes.is_waiting) == (True, False)
    assert lanes.next_moment(1, 0.0) == GRACE_S
    lanes.ended(probe.lane, PullStatus(probe.number, 404), 0.5)
    assert (lanes.pending, lanes.asked_at, lanes.empty_at) == (0, 0.0, 0.5)
    [pull] = ask(lanes, 1, probe=True)
    assert (pull.is_probe, lanes.is_waiting) == (False, True)


def test_a_job_that_was_returned_waits_in_its_queue() -> None:
    """Though none waited behind it when it was delivered."""
    lanes = fresh()
    [pull] = ask(lanes, 1)
    lanes.arrived(pull.lane, 0, 5.0)
    lanes.forget()
    lanes.returned()
    assert (lanes.pending, lanes.empty_at) == (1, -math.inf)


def test_what_is_known_of_an_empty_queue_holds_while_a_pull_is_open() -> None:
    lanes = fresh()
    [probe] = ask(lanes, 1, probe=True)
    lanes.ended(probe.lane, PullStatus(probe.number, 404), 0.0)
    ask(lanes, 1, probe=True)
    known = [rested(lanes)]
    lanes.arrived(probe.lane, 0, 0.0)
    known.append(rested(lanes))
    [again] = ask(lanes, 1, probe=True)
    lanes.arrived(again.lane, 3, 0.0)
    known.append(rested(lanes))
    assert known == [0, None, 3]


@given(st.lists(st.one_of(st.integers(0, 100), st.none(), st.floats(0.0, 15.0)), max_size=60), st.booleans())
def test_no_more_is_out_than_was_asked_for(steps: list[int | float | None], probe: bool) -> None:  # drawn
    """Demand, arrivals and time in any order: never negative, never more asked for than wanted."""
    lanes, now = fresh(), 0.0
    for step in steps:
        if step is None:
            for index in range(LANES):
                lanes.arrived(index, 1, 0.0)
        elif isinstance(step, int):
            before = lanes.out
            pulls = ask(lanes, step, now, probe=probe)
            assert lanes.out == before + sum(pull.batch for pull in pulls)
            assert not pulls or lanes.out <= step
            assert step == 0 or lanes.out > 0, "a poll that wants a job is never without an open pull"
        else:
            now += step
            if lanes.overdue(now):
                lanes.forget()
        assert 0 <= lanes.out <= LANES * MAX_BATCH
