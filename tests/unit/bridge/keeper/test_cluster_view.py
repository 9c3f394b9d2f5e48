"""What the keeper makes of polls and records: since when nobody has spoken for a job."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from edge_bridge.keeper.cluster_view import ClusterView
from edge_bridge.keeper.metrics import KeeperMetrics
from edge_broker.record_mover import RecordMover
from edge_broker.records import RecordStore
from edge_schemas.life.events import GiveUp, Start
from edge_schemas.life.model import JobRecord, new_record
from edge_schemas.life.transition import transition
from edge_schemas.wire.worker_entry import CLOCK_STEP_S, AgentSeen, RelayBeat, WorkerEntry
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

    async def beat(self, *, at: datetime, relay: str, serving_since: datetime) -> None:
        message: Any = SimpleNamespace(
            data=RelayBeat(relay=relay, serving_since=serving_since, at=at).model_dump_json()
        )
        await self.view._on_relay_beat(message)

    def poll(self, *jobs: str, after_s: float = 0.0, worker: str = "w") -> None:
        self.clock.now += after_s
        self.view._update_worker(worker, self.entry(*jobs, worker=worker).model_dump_json().encode())

    def entry(self, *jobs: str, worker: str = "w") -> WorkerEntry:
        self.polls += 1
        agent = AgentSeen(
            instance="i", incarnation=1, seq=self.polls, arrival=str(self.polls), host="", address="", last_poll_at=NOW
        )
        return WorkerEntry(
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


def later_version(entry: WorkerEntry) -> bytes:
    later = entry.model_dump(mode="json")
    later["jobs"][0]["phase"] = "a-phase-of-a-later-version"
    later["health"]["proxy"] = "socks"
    return json.dumps(later).encode()


def test_an_entry_of_a_later_version_is_contact_and_no_proof_that_a_job_is_missing() -> None:
    """This version can't read it as a whole; an older entry without the job is outdated."""
    seen, record = Seen(), started()
    seen.record(record)
    seen.poll()
    for _ in range(6):
        seen.clock.now += 5
        seen.view._update_worker("w", later_version(seen.entry(record.id)))
        assert seen.view.silent_for(record) == 0
    assert seen.view.worker("w") is None
    last = later_version(seen.entry(record.id))
    seen.view._update_worker("w", last)
    seen.clock.now += 3
    seen.view._update_worker("w", last)
    assert seen.view.silent_for(record) == 3, "the same poll again is no contact"


def test_a_start_that_is_found_after_a_gap_in_the_watch_is_contact() -> None:
    seen = Seen()
    seen.view._was_listed = True
    for _ in range(6):
        seen.poll(after_s=5)
    seen.view._watched_records.complete.clear()
    record = started()
    seen.record(record)
    assert seen.view.silent_for(record) == 0


@pytest.mark.parametrize("ahead_s", [-70, -6, 0, 6, 70])
async def test_an_entry_found_at_the_start_is_dated_by_the_beats_of_its_relay(ahead_s: int) -> None:
    seen, record = Seen(), started()
    seen.view._watched_records.complete.clear()
    seen.view._watched_workers.complete.clear()
    seen.record(record)
    seen.poll(record.id)
    seen.view._watched_records.complete.set()
    seen.view._watched_workers.complete.set()
    assert seen.view.relay_time is None
    at = NOW + timedelta(seconds=20)  # the entry is as old as this, whatever NOW is by other clocks
    await seen.beat(at=at, relay="another", serving_since=at - timedelta(days=1))
    assert seen.view.silent_for(record) == 0, "the clock of another relay tells nothing"
    await seen.beat(at=at, relay="r", serving_since=at - timedelta(days=1))
    assert seen.view.silent_for(record) == 20 - CLOCK_STEP_S
    later = at + timedelta(seconds=ahead_s)
    seen.clock.now += 2
    await seen.beat(at=later, relay="another", serving_since=later - timedelta(days=1))
    assert seen.view.relay_time == min(at + timedelta(seconds=2), later)
    seen.poll(record.id, after_s=3)
    assert seen.view.silent_for(record) == 0, "in operation contact is the arrival, whatever time the entry contains"
