"""Which submitted jobs may have a message: decided without I/O, in whatever order a replica learns of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edge_relay.upkeep.job_table import JobTable
from edge_relay.upkeep.order.turns import Turns
from edge_relay.upkeep.submitted_job import SubmittedJob, rank_of, submitted_job
from edge_schemas.life.events import Event, Finish, Release, Start
from edge_schemas.life.model import JobRecord, JobState, new_record
from edge_schemas.life.transition import transition
from edge_schemas.wire.jobs import Job, JobKind
from edge_upkeep.order.demand import Demand
from edge_upkeep.order.queue_order import QueueOrder
from support.relay.jobs import make_job, payload_job

NOW = datetime(2026, 12, 1, tzinfo=UTC)
LINE = (None, "default", JobKind.PAYLOAD)


class Moved:
    """The ended jobs whose records are to be moved."""

    def __init__(self) -> None:
        self.jobs: set[str] = set()
        self.add, self.discard = self.jobs.add, self.jobs.discard

    def __len__(self) -> int:
        return len(self.jobs)


class Replica:
    """The jobs as one replica knows them; `due` are those that have got their message here."""

    def __init__(self, *, ahead: int = 2, listed: bool = True) -> None:
        self.now = NOW
        self.records: dict[str, JobRecord] = {}
        self.moved = Moved()
        anything: Any = self.moved
        self.table = JobTable(anything)
        self.order: QueueOrder[SubmittedJob] = QueueOrder(rank_of, Demand(), self.table.started, lambda *_: ahead)
        self.turns = Turns(self.order, lambda: self.now)
        self.table.on_change(self.turns.update)
        self.due: list[str] = []
        if listed:
            self.turns.list_messages(LINE, (), ())

    def show(self, record: JobRecord) -> None:
        """The watch shows a record."""
        self.records[record.id] = record
        self.table.apply(record.id, record.model_dump_json(exclude_none=True).encode())
        self.due += self.order.due()

    def submit(self, job: Job, delay_s: float | None = None) -> str:
        not_before = None if delay_s is None else self.now + timedelta(seconds=delay_s)
        self.show(new_record(job, not_before=not_before))
        return job.id

    def happen(self, job: str, event: Event) -> None:
        self.show(transition(self.records[job], event))

    def start(self, job: str) -> None:
        self.happen(job, Start("w", 1, self.now))

    def end(self, job: str) -> None:
        self.start(job)
        self.happen(job, Finish("w", 0, None, self.now))


def test_a_job_of_airflow_leaves_no_trace() -> None:
    """However many there are: they are not even parsed."""
    replica = Replica()
    replica.show(new_record(make_job()))
    replica.table.apply("x", b'{"state": "waiting", "no": "record"}')
    assert (len(replica.table), replica.due, replica.table.present.is_set()) == (0, [], False)
    assert submitted_job("x", b'{"work": {"terms": "a parameter"}}') is None


def test_an_ended_job_is_moved_and_one_that_waited_needs_no_message() -> None:
    replica = Replica()
    unneeded: list[str] = []
    replica.table.on_never_started(lambda job: unneeded.append(job.id))
    run, waited = replica.submit(payload_job()), replica.submit(payload_job())
    replica.end(run)
    ended = transition(replica.records[waited], Start("w", 1, NOW))
    assert ended.state is JobState.RUNNING
    replica.show(replica.records[waited].model_copy(update={"state": JobState.ENDED, "job": None}))
    assert replica.moved.jobs == {run, waited}
    assert unneeded == [waited]
    assert not replica.table.clear_if_empty()
    for job in (run, waited):
        replica.table.apply(job, None)
    assert replica.table.clear_if_empty()


def test_before_the_messages_of_a_queue_are_known_no_job_gets_one() -> None:
    """Another replica may have stored them; then the next ones would be too many, and perhaps the wrong ones."""
    replica = Replica(ahead=2, listed=False)
    old = [replica.submit(payload_job()) for _ in range(2)]
    urgent = replica.submit(payload_job(priority=9))
    assert (replica.due, replica.turns.unlisted) == ([], {LINE})
    assert replica.turns.list_messages(LINE, old, ()) == []
    assert (replica.order.due(), replica.turns.unlisted) == ([], set())
    replica.start(old[0])
    assert replica.due == [urgent]


def test_a_message_that_should_be_there_is_missing() -> None:
    """Only if it should have been there before the list was read, and the job still waits."""
    replica = Replica(ahead=3)
    lost, started, found = [replica.submit(payload_job()) for _ in range(3)]
    sent = replica.turns.sent(LINE)
    assert sent == [lost, started, found]
    replica.start(started)
    late = replica.submit(payload_job())
    assert replica.due[-1] == late
    assert replica.turns.list_messages(LINE, [found], sent) == [lost]


def test_a_delay_ends_and_each_wait_has_its_own_message() -> None:
    replica = Replica(ahead=10)
    job = replica.submit(payload_job(), delay_s=5)
    replica.turns.tick()
    assert replica.order.due() == []
    replica.now += timedelta(seconds=5)
    replica.turns.tick()
    assert replica.order.due() == [job]
    replica.start(job)
    replica.happen(job, Release("w", "later", counted=True, at=replica.now, delay_s=7))
    assert replica.due == []
    assert replica.turns.next_at == replica.now + timedelta(seconds=7)
    replica.now += timedelta(seconds=7)
    replica.turns.tick()
    assert replica.order.due() == [job]


def test_a_wait_that_the_watch_did_not_show_gets_a_message_too() -> None:
    """Started and released while the replica had no connection: the message was consumed."""
    replica = Replica()
    job = replica.submit(payload_job())
    started = transition(replica.records[job], Start("w", 1, NOW))
    replica.show(transition(started, Release("w", "later", counted=True, at=NOW + timedelta(seconds=1))))
    assert replica.due == [job, job]


def test_a_granted_job_that_is_released_keeps_its_message() -> None:
    """It returns after a pause, and keeps no other job from a message meanwhile."""
    replica = Replica(ahead=1)
    first, second = replica.submit(payload_job()), replica.submit(payload_job())
    assert replica.due == [first]
    replica.happen(first, Release("w", "no room", counted=True, at=NOW))
    assert replica.due == [first, second]


@given(order=st.permutations(range(3)), offered=st.booleans())
def test_replicas_agree_on_the_first_of_a_group(order: list[int], *, offered: bool) -> None:
    """One has seen all, the other one starts now and is shown the records by their last change."""
    old, new = Replica(ahead=9), Replica(ahead=9, listed=False)
    jobs = [old.submit(payload_job(group="g", priority=number)) for number in order]
    if offered:
        old.happen(jobs[0], Release("w", "no room", counted=False, at=NOW, grant="g1"))
    changed_last = [*jobs[1:], jobs[0]] if offered else jobs
    for job in changed_last:
        new.show(old.records[job])
    new.turns.list_messages(LINE, old.due, ())
    new.due += new.order.due()
    assert (old.due, new.due) == (jobs[:1], [])
    for number, job in enumerate(jobs):
        for replica in (old, new):
            replica.end(job)
        assert old.due == jobs[: number + 2]
        assert new.due == jobs[1 : number + 2]
