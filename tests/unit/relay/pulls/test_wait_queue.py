"""Who gets what, and how much may be requested for those who wait: decided without a clock or a network."""

from datetime import UTC, datetime

from edge_relay.pulls.deliveries import Delivery
from edge_relay.pulls.wait_queue import PollDemand, WaitQueue
from support.relay.jobs import make_job

ACK = "$JS.ACK.EDGE_JOBS.q.1.1.1.1750000000500000000.{pending}"


def delivery(pending: int = 0) -> Delivery:
    return Delivery(make_job(), ACK.format(pending=pending), datetime.now(UTC))


def demand(free: int, *consumers: str) -> PollDemand:
    made = PollDemand(free, lambda: None)
    made.begin(consumers or ["q"])
    return made


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
    one, two, poll = WaitQueue("one"), WaitQueue("two"), demand(2, "one", "two")
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
    return Delivery(job.model_copy(update={"work": work}), ACK.format(pending=0), datetime.now(UTC))


def test_a_job_passes_by_a_worker_whose_runtime_is_too_new_for_it() -> None:
    """Those behind it are served; it stands in no line any more, so that nothing is fetched for it in vain."""
    line, other = WaitQueue("q"), WaitQueue("other")
    told: list[str] = []
    new = PollDemand(2, lambda: told.append("new"), airflow="3.4.0")
    old, unknown = PollDemand(1, lambda: None, airflow="3.2.1"), PollDemand(1, lambda: None)
    for one in (new, old, unknown):
        one.begin(["q", "other"])
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


def test_a_poll_that_wants_nothing_does_not_wait() -> None:
    line = WaitQueue("q")
    line.join(demand(0))
    assert not line.hand_over(delivery())


def test_all_jobs_that_polls_of_this_queue_alone_want_are_requested() -> None:
    line = WaitQueue("q")
    for _ in range(3):
        line.join(demand(2))
    assert not line.needs_probe
    assert [line.to_request(pending) for pending in (None, 0, 100)] == [6, 6, 6]


def test_one_job_is_requested_for_polls_that_other_queues_may_serve() -> None:
    line = WaitQueue("q")
    for _ in range(3):
        line.join(demand(2, "q", "other"))
    probes = [line.needs_probe]
    assert [line.to_request(pending) for pending in (None, 0, 100)] == [1, 1, 1]
    line.join(demand(4))
    assert [*probes, line.needs_probe] == [True, False]
    assert line.to_request(None) == 5


def test_more_is_requested_for_them_in_step_with_what_found_a_taker() -> None:
    """As long as jobs wait. One that nobody took, or the end of the backlog, begins again with one."""
    line, polls = WaitQueue("q"), [demand(1, "q", "other") for _ in range(30)]
    for poll in polls:
        line.join(poll)
    handed = 0
    while line.to_request(100) < 8:
        requested = line.to_request(100)
        for _ in range(requested):
            assert line.hand_over(delivery(pending=100))
        handed += requested
    assert handed == 7
    assert line.to_request(3) == 3
    assert line.hand_over(delivery(pending=0))
    assert line.to_request(100) == 1
    assert line.hand_over(delivery(pending=100))
    assert line.to_request(100) == 2
    for poll in polls:
        poll.leave_all()
    assert not line.hand_over(delivery(pending=100))
    line.join(demand(5, "q", "other"))
    assert line.to_request(100) == 1


def test_who_leaves_ends_its_search() -> None:
    ended: list[str] = []
    poll = demand(1, "one", "two")
    poll.searching(lambda: ended.append("first"))
    poll.begin(["one"])
    assert (ended, poll.is_shared) == (["first"], False)
    poll.close()
    assert ended == ["first"]
