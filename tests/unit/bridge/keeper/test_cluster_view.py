"""What the keeper makes of polls and records: since when nobody has spoken for a job."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from edge_bridge.keeper.cluster_view import ClusterView
from edge_bridge.keeper.metrics import KeeperMetrics
from edge_broker.record_mover import RecordMover
from edge_broker.records import RecordStore
from edge_schemas.life.events import GiveUp, Start
from edge_schemas.life.model import JobRecord, new_record
from edge_schemas.life.transition import transition
from edge_schemas.wire.worker_entry import AgentSeen, WorkerEntry
from edge_schemas.wire.worker_report import JobPhase, JobReport, WorkerHealth, WorkerVersions
from support.relay.jobs import make_job


class Clock:
    """Stands where the test puts it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Seen:
    """A picture that listens already, and a worker that polls."""

    def __init__(self) -> None:
        broker: Any = SimpleNamespace(connected=True, on_connection=lambda _: None)
        self.clock = Clock()
        self.mover = RecordMover(RecordStore(broker))
        self.view = ClusterView(broker, self.mover, KeeperMetrics().put_aside, clock=self.clock)
        self.view._watched_records.complete.set()
        self.view._watched_workers.complete.set()
        self.polls = 0

    def record(self, record: JobRecord) -> None:
        self.view._update_record(record.id, record.model_dump_json().encode())

    def poll(self, *jobs: str, after_s: float = 0.0, worker: str = "w") -> None:
        self.polls += 1
        self.clock.now += after_s
        agent = AgentSeen(
            instance="i", incarnation=1, seq=self.polls, arrival=str(self.polls), host="", address="", last_poll_at=NOW
        )
        entry = WorkerEntry(
            worker=worker,
            site="s",
            agent=agent,
            relay="r",
            poll_timeout_s=50,
            slots=4,
            free=4,
            draining=False,
            jobs=tuple(JobReport(id=job, phase=JobPhase.RUNNING) for job in jobs),
            versions=WorkerVersions(agent="1", python="3", platform="linux"),
            health=WorkerHealth(),
        )
        self.view._update_worker(worker, entry.model_dump_json().encode())


NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def started() -> JobRecord:
    return transition(new_record(make_job()), Start("w", 1, NOW))


def test_silence_counts_from_the_last_poll_that_names_the_job() -> None:
    """Of two agents with one credential one may have died: the other's polls must not keep its jobs for ever."""
    seen, named, forgotten = Seen(), started(), started()
    for record in (named, forgotten):
        seen.record(record)
    for _ in range(6):
        seen.poll(named.id, after_s=5)
    assert seen.view.silent_for(named) == 0
    assert seen.view.silent_for(forgotten) == 30


def test_a_start_is_contact() -> None:
    """A job that was started a moment ago is named by the next poll only."""
    seen = Seen()
    for _ in range(6):
        seen.poll(after_s=5)
    record = started()
    seen.record(record)
    assert seen.view.silent_for(record) == 0
    seen.poll(after_s=5)
    assert seen.view.silent_for(record) == 5


def test_a_job_may_be_named_before_its_record_is_seen() -> None:
    """The two buckets are followed apart, and either may be behind."""
    seen, record = Seen(), started()
    seen.poll(record.id)
    seen.clock.now += 3
    seen.record(record)
    assert seen.view.silent_for(record) == 0


def test_nothing_is_kept_of_a_job_that_is_over() -> None:
    """A keeper lives for months."""
    seen, record = Seen(), started()
    seen.record(record)
    seen.poll(record.id)
    seen.view._update_record(record.id, None)
    seen.poll(record.id)
    seen.poll()
    assert not seen.view._contact._contacts


def test_only_the_holder_keeps_a_job_from_being_given_up() -> None:
    """A worker that never held the job, or held it once, may name it in each of its polls."""
    seen, record = Seen(), started()
    seen.record(record)
    seen.poll(record.id)
    for _ in range(6):
        seen.poll(record.id, after_s=5, worker="other")
    assert seen.view.silent_for(record) == 30


def test_a_former_holder_does_not_keep_the_job_of_its_successor() -> None:
    seen, record = Seen(), started()
    seen.record(record)
    seen.record(transition(record, GiveUp("silence", NOW)))
    again = transition(transition(record, GiveUp("silence", NOW)), Start("other", 1, NOW))
    seen.record(again)
    for _ in range(6):
        seen.poll(record.id, after_s=5)
    assert seen.view.silent_for(again) == 30


def test_nothing_is_kept_of_a_job_that_a_worker_names_and_does_not_hold() -> None:
    """Each poll may name two thousand jobs of its choice."""
    seen, record = Seen(), started()
    seen.record(record)
    seen.poll(record.id, str(uuid4()), worker="other")
    seen.poll(worker="other")
    assert set(seen.view._contact._contacts) == {("w", record.id)}
