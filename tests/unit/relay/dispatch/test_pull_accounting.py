"""Who gets what, and what is asked of a consumer: decided without a clock or a network."""

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_broker.jetstream.consumer import PullStatus
from edge_relay.dispatch.deliveries import Delivery
from edge_relay.dispatch.pull_accounting import (
    ERROR_DELAY_S,
    EXPIRES_S,
    GRACE_S,
    MAX_BATCH,
    NO_CONSUMER_DELAY_S,
    PollDemand,
    PullTracker,
    WaitQueue,
)
from edge_schemas.wire.jobs import AuxiliaryKind
from support.relay.jobs import make_auxiliary_job, make_job


def delivery() -> Delivery:
    return Delivery(make_job(), "$JS.ACK", "default", datetime.now(UTC))


def demand(free: int) -> PollDemand:
    return PollDemand(free, lambda: None)


def book() -> PullTracker:
    return PullTracker(random.Random(1))


def batches(pulls: PullTracker, wanted: int, now: float) -> list[int]:
    return [pull.batch for pull in pulls.ask(wanted, now)]


def test_pulls_are_sized_to_the_demand_and_capped() -> None:
    pulls = book()
    assert batches(pulls, 70, 0.0) == [MAX_BATCH, MAX_BATCH, 6]
    assert batches(pulls, 70, 0.0) == [], "what is out is not asked for again"
    for _ in range(10):
        pulls.arrived()
    assert batches(pulls, 60, 0.0) == []
    assert batches(pulls, 65, 0.0) == [5]


def test_a_pull_that_ran_out_is_followed_by_the_next() -> None:
    pulls = book()
    [pull] = pulls.ask(5, 0.0)
    pulls.arrived()
    pulls.ended(PullStatus(pull.number, 408, 4), EXPIRES_S)
    assert pulls.out == 0
    assert batches(pulls, 4, EXPIRES_S) == [4]


def test_a_status_without_a_count_ends_the_whole_pull() -> None:
    pulls = book()
    [pull] = pulls.ask(3, 0.0)
    pulls.ended(PullStatus(pull.number, 404), 1.0)
    assert pulls.out == 0


def test_heartbeats_and_statuses_of_forgotten_pulls_change_nothing() -> None:
    pulls = book()
    [old] = pulls.ask(3, 0.0)
    pulls.ended(PullStatus(old.number, 100), 1.0)
    assert pulls.out == 3
    pulls.forget()
    pulls.ask(2, 1.0)
    pulls.ended(PullStatus(old.number, 408, 3), 1.0)
    assert pulls.out == 2


@pytest.mark.parametrize(
    ("status", "longest_s"), [(503, NO_CONSUMER_DELAY_S), (409, ERROR_DELAY_S), (400, ERROR_DELAY_S)]
)
def test_errors_delay_the_next_pull_more_and_more(status: int, longest_s: float) -> None:
    """A server without a leader answers thousands of pulls a second with 503."""
    pulls, now, delays = book(), 0.0, []
    for _ in range(12):
        [pull] = pulls.ask(1, now)
        pulls.ended(PullStatus(pull.number, status), now)
        assert pulls.ask(1, now) == []
        moment = pulls.next_moment(1)
        assert moment is not None
        delays.append(moment - now)
        now = moment
    assert delays[0] <= 0.1
    assert longest_s / 2 <= delays[-1] <= longest_s
    assert max(delays) <= longest_s


def test_a_made_consumer_ends_the_back_off() -> None:
    pulls = book()
    for _ in range(8):
        for pull in pulls.ask(1, 0.0):
            pulls.ended(PullStatus(pull.number, 503), 0.0)
    assert pulls.ask(1, 0.0) == []
    pulls.reset_backoff()
    assert batches(pulls, 1, 0.0) == [1]


def test_a_lost_pull_is_noticed_after_its_end() -> None:
    """The server died: no message, no status."""
    pulls = book()
    pulls.ask(3, 0.0)
    assert pulls.next_moment(3) == EXPIRES_S + GRACE_S
    assert not pulls.overdue(EXPIRES_S + GRACE_S - 0.1)
    assert pulls.overdue(EXPIRES_S + GRACE_S)


def test_a_pull_that_was_filled_is_not_taken_for_lost() -> None:
    """A filled pull ends without a status, also when a later one is still open."""
    pulls = book()
    pulls.ask(3, 0.0)
    for _ in range(3):
        pulls.arrived()
    pulls.ask(2, 5.0)
    assert not pulls.overdue(EXPIRES_S + GRACE_S)
    assert pulls.out == 2


@given(st.lists(st.one_of(st.integers(0, 100), st.none(), st.floats(0.0, 15.0)), max_size=60))
def test_what_is_out_never_exceeds_what_was_asked(steps: list[int | float | None]) -> None:
    """Demand, arrivals and time in any order: never negative, never more asked for than wanted."""
    pulls, now = book(), 0.0
    for step in steps:
        if step is None:
            pulls.arrived()
        elif isinstance(step, int):
            before = pulls.out
            asked = sum(batches(pulls, step, now))
            assert pulls.out == before + asked
            assert asked == 0 or pulls.out == step
        else:
            now += step
            if pulls.overdue(now):
                pulls.forget()
        assert pulls.out >= 0


def test_jobs_go_round_among_those_who_wait() -> None:
    line, ones = WaitQueue("q"), [demand(2), demand(2), demand(1)]
    for one in ones:
        line.join(one)
    assert line.wanted == 5
    for _ in range(3):
        assert line.hand_over(delivery())
    assert [len(one.taken) for one in ones] == [1, 1, 1]
    assert line.wanted == 2
    assert line.hand_over(delivery())
    assert line.hand_over(delivery())
    assert not line.hand_over(delivery()), "nobody wants more"


def test_who_waits_in_two_lines_takes_no_more_than_it_wants() -> None:
    one, two, poll = WaitQueue("one"), WaitQueue("two"), demand(2)
    one.join(poll)
    two.join(poll)
    one.join(poll)
    assert (one.wanted, two.wanted) == (2, 2)
    assert one.hand_over(delivery())
    assert (one.wanted, two.wanted) == (1, 1)
    assert two.hand_over(delivery())
    assert (one.wanted, two.wanted) == (0, 0)
    assert not one.hand_over(delivery())


def test_who_has_left_takes_nothing_and_hands_back_what_it_took() -> None:
    line, poll = WaitQueue("q"), demand(3)
    line.join(poll)
    first = delivery()
    assert line.hand_over(first)
    assert poll.close() == [first]
    assert poll.close() == []
    assert line.wanted == 0
    assert not line.hand_over(delivery())
    line.join(poll)
    assert line.wanted == 0, "closed once and for all"


def at(version: str) -> Delivery:
    """A job of a centre with this Airflow."""
    job = make_job()
    work = job.work.model_copy(update={"airflow_version": version})
    return Delivery(job.model_copy(update={"work": work}), "$JS.ACK", "default", datetime.now(UTC))


def test_a_job_passes_by_a_worker_whose_runtime_is_too_new_for_it() -> None:
    """Those behind it are served; it stands in no line any more, so that nothing is fetched for it in vain."""
    line, other = WaitQueue("q"), WaitQueue("other")
    told: list[str] = []
    new = PollDemand(2, lambda: told.append("new"), airflow="3.4.0")
    old, unknown = PollDemand(1, lambda: None, airflow="3.2.1"), PollDemand(1, lambda: None)
    for one in (new, old, unknown):
        line.join(one)
    other.join(new)
    first, second = at("3.3.2"), at("3.3.2")
    assert line.hand_over(first)
    assert line.hand_over(second)
    assert (new.taken, old.taken, unknown.taken) == ([], [first], [second])
    assert (new.required_airflow, told) == ("3.3.2", ["new"])
    assert (line.wanted, other.wanted) == (0, 0)
    other.join(new)
    assert not other.hand_over(at("3.4.0")), "it is answered first, and says then what it takes"


def test_a_job_that_suits_nobody_is_given_back() -> None:
    line, new = WaitQueue("q"), PollDemand(1, lambda: None, airflow="4.0.0")
    line.join(new)
    assert not line.hand_over(at("3.3.2"))
    assert new.close() == []


def test_an_auxiliary_job_passes_by_a_worker_whose_owner_does_not_allow_it() -> None:
    """That worker continues to wait for tasks."""
    line, one = WaitQueue("q"), PollDemand(1, lambda: None)
    willing = PollDemand(1, lambda: None, auxiliary=(AuxiliaryKind.CALLBACK,))
    callback = Delivery(make_auxiliary_job(), "$JS.ACK", "q", datetime.now(UTC))
    test = Delivery(make_auxiliary_job(kind=AuxiliaryKind.CONNECTION_TEST), "$JS.ACK", "q", datetime.now(UTC))
    line.join(one)
    line.join(willing)
    assert not line.hand_over(test)
    assert line.hand_over(callback)
    assert (one.taken, willing.taken, line.wanted) == ([], [callback], 1)


def test_a_poll_that_wants_nothing_does_not_wait() -> None:
    line = WaitQueue("q")
    line.join(demand(0))
    assert not line.hand_over(delivery())
