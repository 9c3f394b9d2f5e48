"""When a job is given up: after its own tolerance, or when its worker certainly came back without it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from edge_broker.audit import Audit
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_schemas.life.agents import ONE_POLL_TIMEOUT, arrive
from edge_schemas.life.events import GiveUp, ReportUserCode, Start, Withdraw
from edge_schemas.life.model import JobRecord, JobState, Verdict, new_record
from edge_schemas.life.transition import transition
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.jobs import Job
from edge_schemas.wire.offline import OfflinePolicy
from edge_schemas.wire.worker_entry import AgentSeen, WorkerEntry
from edge_schemas.wire.worker_report import JobPhase, JobReport, WorkerHealth, WorkerVersions
from edge_upkeep.give_up import GiveUps, due_give_up
from support.relay.jobs import make_auxiliary_job, make_job

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def started(job: Job | None = None, *, incarnation: int = 1) -> JobRecord:
    offline = OfflinePolicy(tolerance_s=60)
    job = (job or make_job()).model_copy(update={"offline": offline})
    return transition(new_record(job), Start("w", incarnation, NOW))


def in_user_code(**more: Any) -> JobRecord:
    return transition(started(**more), ReportUserCode("w", "host", 7, NOW))


def poll(incarnation: int, *jobs: str, instance: str = "here", seq: int = 1) -> WorkerEntry:
    agent = AgentSeen(
        instance=instance,
        incarnation=incarnation,
        seq=seq,
        arrival=f"{instance}-{incarnation}-{seq}",
        host="",
        address="",
        last_poll_at=NOW,
    )
    return WorkerEntry(
        worker="w",
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


def seen(record: JobRecord, entry: WorkerEntry | None = None, *, silent_for_s: float = 0, now: datetime = NOW) -> Any:
    return due_give_up(record, entry, silent_for_s=silent_for_s, relay_time=now, now=now)


def test_a_takeover_is_judged_by_the_clocks_of_the_relays_only() -> None:
    """They dated it. The keeper's clock may be ahead of theirs, and without theirs nothing is judged."""
    record = in_user_code()
    much_later = NOW + timedelta(days=1)
    for relay_time, is_due in (
        (None, False),
        (NOW, False),
        (NOW + ONE_POLL_TIMEOUT - timedelta(seconds=1), False),
        (NOW + ONE_POLL_TIMEOUT, True),
    ):
        entry = poll(2).model_copy(update={"taken_over_at": NOW, "predecessors": (poll(1).agent,)})
        event = due_give_up(record, entry, silent_for_s=0, relay_time=relay_time, now=much_later)
        assert (event is not None) is is_due


def test_the_jobs_own_tolerance_decides() -> None:
    record = in_user_code()
    assert seen(record, silent_for_s=60) is None
    event = seen(record, silent_for_s=61)
    assert event.reason == "no contact with worker w about this job for 61 s (offline tolerance 60 s)"
    ended = transition(record, event)
    assert ended.outcome is not None
    assert (ended.outcome.verdict, ended.outcome.reason) == (Verdict.LOST, event.reason)


def test_what_ran_no_user_code_waits_again_and_what_was_to_stop_is_cancelled() -> None:
    assert transition(started(), seen(started(), silent_for_s=61)).state is JobState.WAITING
    stopping = transition(in_user_code(), Withdraw("marked failed", NOW))
    ended = transition(stopping, seen(stopping, silent_for_s=61))
    assert ended.outcome is not None
    assert ended.outcome.verdict is Verdict.CANCELLED
    auxiliary = started(make_auxiliary_job())
    assert transition(auxiliary, seen(auxiliary, silent_for_s=61)).state is JobState.ENDED


def test_nobody_holds_what_waits_or_has_ended() -> None:
    waiting = new_record(make_job())
    ended = transition(in_user_code(), seen(in_user_code(), silent_for_s=61))
    for record in (waiting, ended):
        assert seen(record, poll(9), silent_for_s=1e6) is None


def test_a_job_that_its_restarted_worker_lacks_is_given_up_at_once() -> None:
    """The same state folder on the same machine: only one agent at a time can have locked it."""
    record = in_user_code()
    entry = arrive(poll(1, record.id), poll(2), superseded_by=None)
    event = seen(record, entry)
    assert event is not None
    assert event.lacking_incarnation == 2
    assert "came back without the job" in event.reason
    assert seen(record, arrive(poll(1, record.id), poll(2, record.id), superseded_by=None)) is None


def test_an_older_agent_that_may_live_elsewhere_has_one_hold_to_say_so() -> None:
    record = in_user_code()
    entry = arrive(poll(1, record.id), poll(2, instance="there"), superseded_by=None)
    assert seen(record, entry, now=NOW + ONE_POLL_TIMEOUT - timedelta(seconds=1)) is None
    assert seen(record, entry, now=NOW + ONE_POLL_TIMEOUT) is not None


def test_a_copied_credential_loses_nothing_for_lacking() -> None:
    """Both agents' polls continue arriving, each without the other's jobs."""
    record = in_user_code()
    entry = arrive(poll(1, record.id), poll(2, instance="there"), superseded_by=None)
    in_conflict = arrive(entry, poll(1, record.id, seq=2), superseded_by=2)
    assert in_conflict.conflict is not None
    for later in (in_conflict, arrive(in_conflict, poll(2, instance="there", seq=2), superseded_by=None)):
        assert seen(record, later, now=NOW + 3 * ONE_POLL_TIMEOUT) is None


def test_its_own_incarnation_does_not_lack_a_job() -> None:
    """A poll that was on its way while the job was started does not list it yet."""
    record = in_user_code(incarnation=2)
    assert seen(record, arrive(poll(1), poll(2), superseded_by=None)) is None


@pytest.mark.parametrize("held", [Start("v", 1, NOW), Start("w", 1, NOW + timedelta(seconds=90))])
def test_a_verdict_does_not_meet_a_later_hold(held: Start) -> None:
    """Another keeper was faster, the job waited again, and somebody has it now: perhaps the same worker."""
    record = started()
    event = seen(record, silent_for_s=61)
    again = transition(transition(record, event), held)
    assert transition(again, event) is again
    assert transition(again, seen(again, silent_for_s=61)) is not again


class Uncounted:
    """Counts nothing."""

    def given_up(self, *_: object) -> None:
        """See `Leader.given_up`."""

    def put_aside(self, step: str) -> None:
        pytest.fail(f"put aside: {step}")


class Leader:
    """A picture that is behind, records that note what is done to them, and who is told."""

    def __init__(self, *records: JobRecord, silent_for_s: float, really: float | Exception) -> None:
        self.records = {record.id: record for record in records}
        self.silence = silent_for_s
        self.really = really
        self.refusals: dict[str, EdgeError] = {}
        self.given_up: list[str] = []

    def unfinished(self) -> list[JobRecord]:
        return list(self.records.values())

    def worker(self, _name: str) -> None:
        return None

    relay_time = None

    def silent_for(self, _worker: str) -> float:
        return self.silence

    async def refresh_worker(self, _worker: str) -> None:
        if isinstance(self.really, Exception):
            raise self.really
        self.silence = self.really

    async def change(self, job: str, event: GiveUp, **_: object) -> tuple[JobRecord, JobRecord]:
        if job in self.refusals:
            raise self.refusals[job]
        self.given_up.append(job)
        return self.records[job], transition(self.records[job], event)

    async def publish(self, *_: object) -> None:
        return None

    async def store(self, *_: object) -> int:
        return 1

    def on_connection(self, _: object) -> None:
        """Its connection is never lost."""

    async def check(self) -> None:
        anything: Any = self
        await GiveUps(anything, anything, anything, Audit(anything, "keeper k"), Uncounted()).check()


async def test_a_watch_that_is_behind_costs_no_job() -> None:
    """Its consumer may be gone for two minutes before it lists again: what the leader knows of the worker decides."""
    record = in_user_code()
    behind = Leader(record, silent_for_s=100, really=1)
    await behind.check()
    assert behind.given_up == []
    right = Leader(record, silent_for_s=100, really=100)
    await right.check()
    assert right.given_up == [record.id]


@pytest.mark.parametrize("error", [BrokerUnavailable("no leader"), JetStreamError(10047, "no room on the disk")])
async def test_a_give_up_that_nats_does_not_take_is_put_off(error: Exception) -> None:
    """The keeper must not end: it beats for all others."""
    leader = Leader(in_user_code(), silent_for_s=100, really=error)
    with structlog.testing.capture_logs() as logs:
        await leader.check()
    assert [line["event"] for line in logs] == ["give_up_postponed"]
    assert leader.given_up == []


@pytest.mark.parametrize("code", [ErrorCode.WRONG_STATE, ErrorCode.JOB_ENDED])
async def test_a_job_that_another_keeper_was_faster_with_does_not_hold_up_the_others(code: ErrorCode) -> None:
    """It waits again, or its record is gone, and the picture may show it for two minutes more."""
    gone, lost = in_user_code(), in_user_code()
    leader = Leader(gone, lost, silent_for_s=100, really=100)
    leader.refusals[gone.id] = EdgeError(code)
    await leader.check()
    assert leader.given_up == [lost.id]


async def test_of_a_worker_with_many_jobs_not_each_waits_for_a_nats_that_is_away() -> None:
    """A keeper judges all workers in turn, and NATS may be there for the next one."""
    first, second = in_user_code(), in_user_code()
    leader = Leader(first, second, silent_for_s=100, really=100)
    leader.refusals = {record.id: BrokerUnavailable("no leader") for record in (first, second)}
    with structlog.testing.capture_logs() as logs:
        await leader.check()
    assert [line["event"] for line in logs] == ["give_up_postponed"]


async def test_a_worker_that_calls_while_its_jobs_are_given_up_keeps_the_rest() -> None:
    """A thousand jobs take seconds."""
    first, second = in_user_code(), in_user_code()
    leader = Leader(first, second, silent_for_s=100, really=100)
    change = leader.change

    async def hear_of_it(job: str, event: GiveUp, **_: object) -> tuple[JobRecord, JobRecord]:
        leader.silence = 0
        return await change(job, event)

    leader.change = hear_of_it  # type: ignore[method-assign]  # replaced for this test
    await leader.check()
    assert leader.given_up == [first.id]
