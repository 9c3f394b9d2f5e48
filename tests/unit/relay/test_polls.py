"""What wakes a parked poll, and what does not."""

from edge_relay.metrics import Metrics
from edge_relay.polls import MAX_TOLD, REPEAT_AFTER_S, ParkedPoll, ParkedPolls
from edge_schemas.polls import Poll, WorkerVersions


def parked(worker: str = "w", *, seq: int = 1, incarnation: int = 1) -> ParkedPoll:
    versions = WorkerVersions(agent="", python="", platform="")
    report = Poll(protocol=1, incarnation=incarnation, seq=seq, slots=1, free=1, versions=versions)
    return ParkedPoll(worker, "hash-of-" + worker, report)


def test_a_newer_poll_outdoes_older_ones_of_the_same_worker() -> None:
    polls, metrics = ParkedPolls(Metrics()), Metrics()
    assert metrics is not None
    old, new, same, other, newer = parked(seq=1), parked(seq=2), parked(seq=2), parked("x"), parked(incarnation=2)
    with polls.parked(old), polls.parked(new), polls.parked(same), polls.parked(other), polls.parked(newer):
        polls.arrived(new)
        assert [poll.outdone for poll in (old, new, same, other, newer)] == [True, False, True, False, False]
        assert old.wake.is_set()
        assert not other.wake.is_set()


def test_its_own_arrival_is_no_news() -> None:
    polls, poll = ParkedPolls(Metrics()), parked()
    with polls.parked(poll):
        poll.look = False
        polls.notice("w", poll.arrival.encode())
        polls.notice("other", b"")
        assert not poll.wake.is_set()
        polls.notice("w", b"another arrival")
        assert poll.wake.is_set()
        assert poll.look
        assert poll.noticed
    polls.notice("w", b"")


def test_a_changed_credential_wakes_its_polls_only() -> None:
    polls, one, two = ParkedPolls(Metrics()), parked("one"), parked("two")
    with polls.parked(one), polls.parked(two):
        polls.credential_changed("hash-of-one")
        assert one.wake.is_set()
        assert not two.wake.is_set()
        polls.wake_all()
        assert two.wake.is_set()


def test_what_was_told_is_not_told_again_at_once() -> None:
    polls = ParkedPolls(Metrics())
    assert polls.repeat_at("w", "stop") == 0.0
    polls.told("w", "stop", 100.0)
    assert polls.repeat_at("w", "stop") == 100.0 + REPEAT_AFTER_S
    assert polls.repeat_at("w", "stop this too") == 0.0
    assert polls.repeat_at("x", "stop") == 0.0


def test_the_memory_of_what_was_told_is_bounded() -> None:
    polls = ParkedPolls(Metrics())
    for number in range(MAX_TOLD + 10):
        polls.told(f"w{number}", "stop", float(number))
    assert len(polls._told) <= MAX_TOLD
