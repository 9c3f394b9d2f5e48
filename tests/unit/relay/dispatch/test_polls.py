"""What wakes a parked poll, and what does not."""

from edge_relay.dispatch.arrival import agent_seen, poll_timeout_s
from edge_relay.dispatch.polls import MAX_SENT, REPEAT_AFTER_S, ParkedPoll, ParkedPolls
from edge_relay.metrics.replica import Metrics
from edge_relay.stores.last_arrivals import StoredEntry
from edge_schemas.life.agents import arrive, resolve_conflict
from edge_schemas.wire.offline import OfflinePolicy
from edge_schemas.wire.polls import Poll
from edge_schemas.wire.worker_entry import WorkerEntry
from edge_schemas.wire.worker_report import JobPhase, JobReport, WorkerVersions
from support.relay.jobs import make_job

VERSIONS = WorkerVersions(agent="", python="", platform="")


def parked(worker: str = "w", *, seq: int = 1, incarnation: int = 1, instance: str = "") -> ParkedPoll:
    report = Poll(protocol=1, incarnation=incarnation, seq=seq, slots=1, free=1, versions=VERSIONS, instance=instance)
    return ParkedPoll(worker, "hash-of-" + worker, report, agent_seen(report, None), report.free)


def stored(*polls: ParkedPoll) -> StoredEntry:
    """The entry after these polls, and its revision."""
    entry = None
    for poll in polls:
        new = WorkerEntry(
            worker=poll.worker,
            site="s",
            agent=poll.agent,
            relay="r",
            poll_timeout_s=1,
            slots=1,
            free=1,
            draining=False,
            jobs=(),
            versions=VERSIONS,
            health=poll.poll.health,
        )
        entry = arrive(entry, new, superseded_by=None)
    assert entry is not None
    return StoredEntry(entry, len(polls))


def test_a_poll_outdoes_those_that_were_there_before_it() -> None:
    """By the order in which they came into the entry, which is not the order in which their handlers continue."""
    polls = ParkedPolls(Metrics())
    old, new, same, other, arriving = parked(seq=1), parked(seq=2), parked(seq=2), parked("x"), parked(incarnation=2)
    with polls.parked(old), polls.parked(new), polls.parked(same), polls.parked(other), polls.parked(arriving):
        polls.arrived(other, stored(other))
        polls.arrived(old, stored(old))
        polls.arrived(same, stored(old, new, same))
        polls.arrived(new, stored(old, new))
        assert [poll.superseded_by for poll in (old, new, same, other, arriving)] == [new.agent, None, None, None, None]
        assert old.wake.is_set()
        assert not other.wake.is_set()


def test_the_sides_of_a_conflict_do_not_outdo_each_other() -> None:
    polls = ParkedPolls(Metrics())
    one, two, again = parked(instance="a"), parked(instance="b"), parked(instance="b", seq=2)
    with polls.parked(one), polls.parked(two), polls.parked(again):
        polls.arrived(one, stored(one))
        polls.arrived(two, stored(one, two))
        polls.arrived(again, stored(one, two, again))
        assert (one.superseded_by, two.superseded_by, again.superseded_by) == (None, again.agent, None)


def test_a_poll_is_held_no_longer_than_its_jobs_allow() -> None:
    """Else a worker would have too few contacts before it must stop a job by itself."""
    contract = OfflinePolicy(tolerance_s=60)
    job = JobReport(id=make_job().id, phase=JobPhase.RUNNING, offline=contract)
    report = parked().poll.model_copy(update={"poll_timeout_s": 50.0})
    assert poll_timeout_s(report, 40.0) == 40.0
    assert poll_timeout_s(report.model_copy(update={"jobs": (job,)}), 40.0) == contract.longest_poll_timeout_s == 10.0


def test_its_own_arrival_is_no_news() -> None:
    polls, poll = ParkedPolls(Metrics()), parked()
    with polls.parked(poll):
        poll.is_stale = False
        polls.notice("w", poll.agent.arrival.encode())
        polls.notice("other", b"")
        assert not poll.wake.is_set()
        polls.notice("w", b"another arrival")
        assert poll.wake.is_set()
        assert poll.is_stale
        assert poll.is_notified
    polls.notice("w", b"")


def test_an_entry_wakes_the_polls_that_it_does_not_report() -> None:
    """A notice may be lost; the watch of the entries brings every arrival, also that of the poll itself."""
    for later, wakes in (
        (parked(seq=1), True),
        (parked(seq=2), True),
        (parked(incarnation=2, instance="b"), True),
        (None, False),
    ):
        polls, poll = ParkedPolls(Metrics()), parked(instance="a")
        entry = stored(poll) if later is None else stored(poll, later)
        with polls.parked(poll):
            polls.arrived(poll, stored(poll))
            polls.entry_changed("other", dumped(entry))
            polls.entry_changed("w", dumped(entry))
            assert (poll.is_notified, poll.wake.is_set()) == (wakes, wakes)


def test_a_conflict_and_its_end_wake_both_polls() -> None:
    polls, one, two = ParkedPolls(Metrics()), parked(instance="a"), parked(instance="b")
    conflict = stored(one, two)
    with polls.parked(one), polls.parked(two):
        polls.arrived(one, stored(one))
        polls.arrived(two, conflict)
        for entry in (conflict.entry, resolve_conflict(conflict.entry, keep_newer=True, at=one.agent.last_poll_at)):
            for poll in (one, two):
                poll.wake.clear()
            polls.entry_changed("w", dumped(StoredEntry(entry, 3)))
            assert (one.wake.is_set(), two.wake.is_set()) == (True, True)


def dumped(stored: StoredEntry) -> bytes:
    return stored.entry.model_dump_json(exclude_none=True).encode()


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
    polls.record_sent("w", "stop", 100.0)
    assert polls.repeat_at("w", "stop") == 100.0 + REPEAT_AFTER_S
    assert polls.repeat_at("w", "stop this too") == 0.0
    assert polls.repeat_at("x", "stop") == 0.0


def test_the_memory_of_what_was_told_is_bounded() -> None:
    polls = ParkedPolls(Metrics())
    for number in range(MAX_SENT + 10):
        polls.record_sent(f"w{number}", "stop", float(number))
    assert len(polls._sent) <= MAX_SENT
