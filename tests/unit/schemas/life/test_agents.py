"""Which agent speaks for a worker: restarts never look like a copied credential, and a copy never costs a job."""

import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge_schemas.life.agents import (
    MAX_PREDECESSORS,
    ONE_POLL_TIMEOUT,
    arrive,
    check_taken_over,
    current_arrival,
    gets_jobs,
    has_taken_over,
    is_holding_agent,
    is_offline,
    leave,
    resolve_conflict,
)
from edge_schemas.life.model import Holder
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.polls import MAX_POLL_TIMEOUT_S
from edge_schemas.wire.worker_entry import AgentSeen, WorkerEntry
from edge_schemas.wire.worker_report import JobPhase, JobReport, WorkerHealth, WorkerVersions

START_OF_TIME = datetime(2026, 1, 1, tzinfo=UTC)
VERSIONS = WorkerVersions(agent="", python="", platform="")
HEALTH = WorkerHealth()


def polled(
    instance: str,
    incarnation: int,
    seq: int = 1,
    *,
    after_s: float = 0.0,
    host: str | None = None,
    jobs: tuple[str, ...] = (),
) -> WorkerEntry:
    """The entry made of one arriving poll."""
    agent = AgentSeen(
        instance=instance,
        incarnation=incarnation,
        seq=seq,
        arrival=uuid.uuid4().hex,
        host=instance if host is None else host,
        address="192.0.2.1",
        last_poll_at=START_OF_TIME + timedelta(seconds=after_s),
    )
    return WorkerEntry(
        worker="w",
        site="s",
        agent=agent,
        relay="r",
        poll_timeout_s=MAX_POLL_TIMEOUT_S,
        slots=1,
        free=1,
        draining=False,
        jobs=tuple(JobReport(id=job, phase=JobPhase.RUNNING) for job in jobs),
        versions=VERSIONS,
        health=HEALTH,
    )


def after(*arrivals: WorkerEntry | tuple[WorkerEntry, int]) -> WorkerEntry:
    """The entry after these polls; with a number next to it a poll says by whom it was superseded."""
    entry: WorkerEntry | None = None
    for arrival in arrivals:
        new, superseded_by = arrival if isinstance(arrival, tuple) else (arrival, None)
        entry = arrive(entry, new, superseded_by=superseded_by)
    assert entry is not None
    return entry


def refused_by(entry: WorkerEntry, new: WorkerEntry, *, superseded_by: int | None = None) -> int:
    """The incarnation in whose favour a poll is turned away."""
    with pytest.raises(EdgeError) as refusal:
        arrive(entry, new, superseded_by=superseded_by)
    assert refusal.value.code is ErrorCode.SUPERSEDED
    return int(refusal.value.extra["superseded_by"])


def at(seconds: float) -> datetime:
    return START_OF_TIME + timedelta(seconds=seconds)


A_HOLD = ONE_POLL_TIMEOUT.total_seconds()
CONFLICT = (polled("a", 6, 10), polled("b", 7, 1), (polled("a", 6, 11), 7))


def test_the_same_arrival_again_changes_nothing() -> None:
    """Its write was done, and the broker's answer to it was lost."""
    new = polled("a", 1)
    entry = after(new)
    assert arrive(entry, new, superseded_by=None) is entry
    in_conflict = after(*CONFLICT)
    assert in_conflict.conflict is not None
    again = in_conflict.model_copy(update={"agent": in_conflict.conflict.older})
    assert arrive(in_conflict, again, superseded_by=7) is in_conflict


def test_a_load_balancers_repeat_takes_over_and_a_late_one_does_not() -> None:
    first, repeat, newer = polled("a", 1, 5), polled("a", 1, 5), polled("a", 1, 6)
    assert after(first, repeat).agent == repeat.agent
    assert after(first, repeat).conflict is None
    assert refused_by(after(first, newer), polled("a", 1, 5)) == 1


def test_a_restart_takes_over_and_the_older_agents_polls_are_turned_away() -> None:
    entry = after(polled("a", 1, 99), polled("a", 2, 1))
    assert entry.conflict is None
    assert entry.agent.incarnation == 2
    assert refused_by(entry, polled("a", 1, 100)) == 2


def test_on_the_same_machine_since_its_boot_a_restart_stands_alone_at_once() -> None:
    """Only one agent at a time can lock the state folder."""
    assert has_taken_over(after(polled("a", 1), polled("a", 2)), at(0))


@pytest.mark.parametrize("instance", ["b", ""])
def test_elsewhere_a_newer_agent_stands_alone_after_a_hold_or_when_the_older_ones_poll_is_gone(instance: str) -> None:
    """After a reboot, or where the machine does not say what it is."""
    first = polled(instance and "a", 1)
    entry = after(first, polled(instance, 2, after_s=5))
    assert not has_taken_over(entry, at(5 + A_HOLD - 1))
    assert has_taken_over(entry, at(5 + A_HOLD))
    left = leave(entry, first.agent.arrival)
    assert left is not None
    assert has_taken_over(left, at(5))
    gone = leave(after(first), first.agent.arrival)
    assert gone is not None
    assert has_taken_over(arrive(gone, polled(instance, 2, after_s=5), superseded_by=None), at(5))


def test_a_poll_that_left_is_no_news_once_its_agent_has_polled_again() -> None:
    first = polled("a", 1, 1)
    assert leave(after(first, polled("a", 1, 2)), first.agent.arrival) is None
    marked = leave(after(first), first.agent.arrival)
    assert marked is not None
    assert leave(marked, first.agent.arrival) is None
    assert arrive(marked, polled("a", 1, 2), superseded_by=None).agent.left is False


def test_a_newer_agents_own_restart_does_not_hide_the_one_it_was_copied_from() -> None:
    """`b` is a copy of `a`; that its second start had a predecessor on the same machine says nothing about `a`."""
    entry = after(polled("a", 1), polled("b", 2, after_s=1), polled("b", 3, after_s=2))
    assert [one.instance for one in entry.predecessors] == ["a"]
    assert not has_taken_over(entry, at(3))
    assert has_taken_over(entry, at(1 + A_HOLD)), "since the first one took over, not since its restart"
    third = after(polled("a", 1), polled("b", 2, after_s=1), polled("c", 3, after_s=9))
    assert not has_taken_over(third, at(1 + A_HOLD))
    assert has_taken_over(third, at(9 + A_HOLD))


def test_the_memory_of_predecessors_is_bounded() -> None:
    entry = after(*(polled(f"machine-{n}", n) for n in range(1, 3 * MAX_PREDECESSORS)))
    assert len(entry.predecessors) == MAX_PREDECESSORS
    assert after(entry, polled(entry.agent.instance, entry.agent.incarnation, 2, after_s=A_HOLD)).predecessors == ()


@pytest.mark.parametrize(
    ("arrivals", "older", "newer"),
    [
        (CONFLICT, "a", "b"),
        ((polled("b", 7, 1), (polled("a", 6, 11), 7)), "a", "b"),
        ((polled("a", 7), polled("b", 7)), "a", "b"),
        ((polled("b", 7), polled("a", 7)), "b", "a"),
        ((polled("a", 7), polled("b", 8), (polled("a", 7, 2), 8)), "a", "b"),
        ((polled("a", 5), polled("b", 6), polled("b", 7), (polled("a", 5, 2), 6)), "a", "b"),
    ],
    ids=["told and back", "copy first", "same start", "same start, other order", "newer copy", "newer copy restarted"],
)
def test_two_that_live_are_named_in_any_order(arrivals: tuple[WorkerEntry, ...], older: str, newer: str) -> None:
    entry = after(*arrivals)
    assert entry.conflict is not None
    assert (entry.conflict.older.instance, entry.conflict.newer.instance) == (older, newer)
    assert not has_taken_over(entry, at(10 * A_HOLD))
    assert gets_jobs(entry, entry.conflict.older)
    assert not gets_jobs(entry, entry.conflict.newer)


def test_an_agent_that_was_turned_away_by_its_own_newer_poll_proves_nothing() -> None:
    assert refused_by(after(polled("a", 6), polled("b", 7)), polled("a", 6, 2), superseded_by=6) == 7


def test_both_sides_of_a_conflict_are_served() -> None:
    entry = after(*CONFLICT)
    for seq in range(2, 5):
        older, newer = polled("a", 6, 20 + seq), polled("b", 7, seq)
        entry = after(entry, older, newer)
        assert entry.conflict is not None
        assert current_arrival(entry, older.agent) == older.agent
        assert current_arrival(entry, newer.agent) == newer.agent
        assert refused_by(entry, polled("a", 6, 20)) == 6
        assert refused_by(entry, polled("b", 7, 1)) == 7


@pytest.mark.parametrize(
    "restarted",
    [
        polled("a", 7, 1),
        polled("a", 9, 1),
        polled("a2", 7, 1, host="a"),
        polled("a2", 9, 1, host="a"),
        polled("b", 8, 1),
        polled("b2", 8, 1, host="b"),
    ],
    ids=["older", "older, often", "older rebooted", "older rebooted often", "newer", "newer rebooted"],
)
def test_a_restart_of_either_side_takes_its_own_place(restarted: WorkerEntry) -> None:
    before = after(*CONFLICT)
    if restarted.agent.instance != restarted.agent.host:
        told = refused_by(before, restarted)
        assert told != restarted.agent.incarnation, "else it would take it for a poll of its own"
        entry = arrive(before, restarted, superseded_by=told)
    else:
        entry = after(before, restarted)
    assert entry.conflict is not None
    hosts = (entry.conflict.older.host, entry.conflict.newer.host)
    assert hosts == ("a", "b")
    assert restarted.agent in (entry.conflict.older, entry.conflict.newer)
    outlived = "a" if restarted.agent.host == "a" else "b"
    late = polled(outlived, {"a": 6, "b": 7}[outlived], 1)
    if restarted.agent.instance == outlived:
        assert refused_by(entry, late) == restarted.agent.incarnation


def test_a_conflict_that_was_resolved_begins_again_if_the_other_lives_on() -> None:
    for keep_newer, dropped, kept in ((True, ("a", 6), 7), (False, ("b", 7), 6)):
        entry = resolve_conflict(after(*CONFLICT), keep_newer=keep_newer, at=at(100))
        assert entry.conflict is None
        assert entry.agent.incarnation == kept
        assert not has_taken_over(entry, at(100 + A_HOLD)), "the kept one has not polled since"
        repeat = polled(*dropped, 1)
        assert refused_by(entry, repeat, superseded_by=kept) == kept, "a repeat of an earlier poll proves nothing"
        assert refused_by(entry, polled(*dropped, 50, after_s=101)) == kept
        again = arrive(entry, polled(*dropped, 51, after_s=102), superseded_by=kept)
        assert again.conflict is not None
        assert (again.conflict.older.instance, again.conflict.newer.instance) == ("a", "b")


@pytest.mark.parametrize("keep_newer", [True, False])
def test_the_one_that_an_operator_kept_stands_alone_after_a_hold(keep_newer: bool) -> None:
    resolved = resolve_conflict(after(*CONFLICT), keep_newer=keep_newer, at=at(100))
    kept = resolved.agent
    entry = after(resolved, polled(kept.instance, kept.incarnation, kept.seq + 1, after_s=110))
    assert gets_jobs(entry, entry.agent)
    assert not has_taken_over(entry, at(100 + A_HOLD - 1))
    assert has_taken_over(entry, at(100 + A_HOLD))
    assert resolve_conflict(entry, keep_newer=keep_newer, at=at(300)) is entry
    restarted = after(entry, polled(kept.instance, kept.incarnation + 1, after_s=200))
    assert restarted.conflict is None


def test_an_agent_takes_up_older_jobs_only_once_it_stands_alone() -> None:
    entry = after(polled("a", 6), polled("b", 7))
    check_taken_over(entry, incarnation=7, key_hash=None, now=at(A_HOLD))
    for known, seconds in ((entry, 1.0), (None, A_HOLD), (after(*CONFLICT), A_HOLD), (after(polled("a", 6)), A_HOLD)):
        with pytest.raises(EdgeError) as refusal:
            check_taken_over(known, incarnation=7, key_hash=None, now=at(seconds))
        assert refusal.value.code is ErrorCode.TAKEOVER_PENDING


def with_key(entry: WorkerEntry, key: str) -> WorkerEntry:
    return entry.model_copy(update={"agent": entry.agent.model_copy(update={"key_hash": key})})


def test_two_keys_with_one_incarnation_are_two_agents_whatever_else_they_claim() -> None:
    """A copy can learn the original's instance, but not what its process keeps in memory."""
    entry = arrive(with_key(polled("a", 6), "own"), with_key(polled("a", 6, 2), "another"), superseded_by=None)
    assert entry.conflict is not None
    same = arrive(with_key(polled("a", 6), "own"), with_key(polled("a", 6, 2), "own"), superseded_by=None)
    assert same.conflict is None


def test_only_the_process_that_started_a_job_acts_for_it_without_further_proof() -> None:
    holder = Holder(worker="w", incarnation=6, started_at=at(0), key_hash="own")
    assert is_holding_agent(holder, 6, "own")
    for incarnation, key in ((6, None), (6, "another"), (5, "another"), (7, "own")):
        assert not is_holding_agent(holder, incarnation, key), (incarnation, key)
    assert is_holding_agent(holder.model_copy(update={"key_hash": None}), 6, None), "a client that sends no key"


def test_an_agent_takes_up_older_jobs_with_the_key_that_polls() -> None:
    entry = with_key(after(polled("a", 7)), "own")
    check_taken_over(entry, incarnation=7, key_hash="own", now=at(0))
    with pytest.raises(EdgeError):
        check_taken_over(entry, incarnation=7, key_hash="another", now=at(0))


def test_offline_is_after_three_missed_contacts() -> None:
    entry = after(polled("a", 1))
    assert not is_offline(entry, at(3 * MAX_POLL_TIMEOUT_S))
    assert is_offline(entry, at(3 * MAX_POLL_TIMEOUT_S + 1))
    short = entry.model_copy(update={"poll_timeout_s": 0.1})
    assert not is_offline(short, at(14)), "a worker that polls all the time is not offline at once"


@dataclass(eq=False)
class Process:
    """An agent's machine with its state folder, and the process that runs there.

    Attributes:
        jobs: What runs there, each with the incarnation that started it; outlives the process, not the machine's boot.
        parked: Its poll at the centre.
    """

    host: str
    instance: str
    incarnation: int
    seq: int = 0
    superseded_by: int | None = None
    parked: AgentSeen | None = None
    jobs: dict[str, int] = field(default_factory=dict)


class Agents(RuleBasedStateMachine):
    """A worker's entry under restarts, reboots, repeats and late polls of the machines that have its credential."""

    hosts: tuple[str, ...] = ("one",)

    def __init__(self) -> None:
        super().__init__()
        self.now = START_OF_TIME
        self.entry: WorkerEntry | None = None
        self.sent: list[tuple[WorkerEntry, int | None]] = []
        self.machines = [Process(host, f"{host}-boot-1", incarnation=1) for host in self.hosts]
        self.boots = 1

    def poll(self, machine: Process) -> None:
        """One poll as the agent makes it; what the centre answers at once changes what the next one says."""
        machine.seq += 1
        new = polled(
            machine.instance,
            machine.incarnation,
            machine.seq,
            after_s=(self.now - START_OF_TIME).total_seconds(),
            host=machine.host,
            jobs=tuple(machine.jobs),
        )
        self.sent.append((new, machine.superseded_by))
        try:
            self.entry = arrive(self.entry, new, superseded_by=machine.superseded_by)
        except EdgeError as refusal:
            self.turned_away(machine, int(refusal.extra["superseded_by"]))
        else:
            machine.parked, machine.superseded_by = new.agent, None
        self.wake()

    def turned_away(self, machine: Process, by: int) -> None:
        machine.parked = None
        machine.superseded_by = None if by == machine.incarnation else by

    def wake(self) -> None:
        """Answer the parked polls that count no more."""
        for machine in self.machines:
            if self.entry is not None and machine.parked is not None:
                current = current_arrival(self.entry, machine.parked)
                if current.arrival != machine.parked.arrival:
                    self.turned_away(machine, current.incarnation)

    def poll_until_parked(self) -> None:
        """Whoever is turned away polls again at once; nobody may be turned away for ever."""
        for _ in range(6):
            waiting = [machine for machine in self.machines if machine.parked is None]
            if not waiting:
                return
            self.poll(waiting[0])
        raise AssertionError("polls that are turned away again and again")

    @rule(which=st.integers(0, 1), seconds=st.sampled_from([0.0, 1.0, 49.0]))
    def time_passes_and_somebody_polls(self, which: int, seconds: float) -> None:
        """All poll at the latest when their hold is over."""
        self.now += timedelta(seconds=seconds)
        machine = self.machines[which % len(self.machines)]
        for one in self.machines:
            if one is machine or one.parked is None or self.now - one.parked.last_poll_at >= timedelta(seconds=49):
                self.poll(one)
        self.poll_until_parked()

    @rule(which=st.integers(0, 1), reboots=st.booleans(), is_seen=st.booleans())
    def agent_is_started_again(self, which: int, *, reboots: bool, is_seen: bool) -> None:
        """With or without its machine; the centre may see its connection close."""
        machine = self.machines[which % len(self.machines)]
        if is_seen and machine.parked is not None and self.entry is not None:
            self.entry = leave(self.entry, machine.parked.arrival) or self.entry
        if reboots:
            self.boots += 1
            machine.instance = f"{machine.host}-boot-{self.boots}"
            machine.jobs.clear()
        machine.incarnation += 1
        machine.seq, machine.superseded_by, machine.parked = 0, None, None
        self.poll_until_parked()

    @rule(which=st.integers(0, 40), seconds=st.sampled_from([0.0, 5.0]))
    def a_poll_is_delivered_again(self, which: int, seconds: float) -> None:
        """By a load balancer: any earlier poll, of a living process or of a dead one; the answer reaches nobody."""
        if not self.sent:
            return
        new, superseded_by = self.sent[-1 - which % len(self.sent)]
        self.now += timedelta(seconds=seconds)
        agent = new.agent.model_copy(update={"arrival": uuid.uuid4().hex, "last_poll_at": self.now})
        with suppress(EdgeError):
            self.entry = arrive(self.entry, new.model_copy(update={"agent": agent}), superseded_by=superseded_by)
        self.wake()
        self.poll_until_parked()

    @rule(which=st.integers(0, 1))
    def a_job_is_started(self, which: int) -> None:
        machine = self.machines[which % len(self.machines)]
        if self.entry is not None and machine.parked is not None and gets_jobs(self.entry, machine.parked):
            machine.jobs[str(uuid.uuid4())] = machine.incarnation
            self.poll(machine)
            self.poll_until_parked()

    @invariant()
    def no_job_that_lives_is_given_up(self) -> None:
        """By the keeper's rule: an agent that stands alone has come back without it."""
        if self.entry is None or not has_taken_over(self.entry, self.now):
            return
        listed = {report.id for report in self.entry.jobs}
        for machine in self.machines:
            for job, incarnation in machine.jobs.items():
                assert job in listed or incarnation >= self.entry.agent.incarnation, f"a job on {machine.host} is lost"

    def teardown(self) -> None:
        """The wire carries what came of it."""
        if self.entry is not None:
            read = WorkerEntry.model_validate_json(self.entry.model_dump_json(exclude_none=True))
            assert read.model_dump() == self.entry.model_dump()


class OneAgent(Agents):
    """One agent that is started again any number of times, with its polls repeated and late."""

    @invariant()
    def never_in_conflict(self) -> None:
        assert self.entry is None or self.entry.conflict is None

    @rule()
    def it_stands_alone_in_the_end(self) -> None:
        self.poll(self.machines[0])
        self.now += ONE_POLL_TIMEOUT
        self.poll(self.machines[0])
        assert self.entry is not None
        assert has_taken_over(self.entry, self.now)
        assert self.entry.agent == self.machines[0].parked


class TwoAgents(Agents):
    """Two machines with one credential, both alive."""

    hosts = ("one", "two")

    @rule()
    def they_are_found(self) -> None:
        """Once both have polled a few times with neither started again."""
        for _ in range(3):
            for machine in self.machines:
                self.poll(machine)
        self.poll_until_parked()
        assert self.entry is not None
        conflict = self.entry.conflict
        assert conflict is not None
        assert {conflict.older.host, conflict.newer.host} == {"one", "two"}
        takers = [m.host for m in self.machines if m.parked is not None and gets_jobs(self.entry, m.parked)]
        assert takers == [conflict.older.host]

    @rule(keep_newer=st.booleans())
    def an_operator_decides_though_both_live(self, *, keep_newer: bool) -> None:
        if self.entry is not None:
            self.entry = resolve_conflict(self.entry, keep_newer=keep_newer, at=self.now)
            self.wake()
            self.poll_until_parked()


TestOneAgent = OneAgent.TestCase
TestOneAgent.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestTwoAgents = TwoAgents.TestCase
TestTwoAgents.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
