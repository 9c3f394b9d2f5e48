"""What the keeper concludes from a record and the task instance's row."""

import asyncio
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from edge_bridge.keeper import database_watch
from edge_bridge.keeper.database_watch import DatabaseWatch
from edge_bridge.keeper.dispatch import Dispatches, TaskRow
from edge_bridge.keeper.gate.upstream import Answer
from edge_bridge.keeper.metrics import KeeperMetrics
from edge_bridge.keeper.task_heartbeats import HeartbeatSettings, TaskHeartbeats, is_due
from edge_bridge.keeper.tokens import TokenSubject
from edge_bridge.keeper.withdrawals import Unwanted, Withdrawals, unwanted
from edge_broker.connection.errors import JetStreamError
from edge_schemas.life.events import AnswerWrite, BeginFinishing, ReportUserCode, Start, Withdraw
from edge_schemas.life.model import JobRecord, JobState, WriteAnswer, new_record
from edge_schemas.life.transition import transition
from edge_schemas.wire.jobs import Job, TaskIdentity, TaskWork
from edge_schemas.wire.offline import OfflinePolicy
from support.nats.server import eventually
from support.relay.jobs import make_auxiliary_job

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SETTINGS = HeartbeatSettings(timedelta(seconds=300))


def waiting() -> JobRecord:
    task = TaskIdentity(ti_id=str(uuid.uuid4()), dag_id="d", task_id="t", run_id="r", try_number=1)
    work = TaskWork(task=task, workload={}, core_executor="")
    offline = OfflinePolicy(tolerance_s=600)
    return new_record(Job(id=str(uuid.uuid4()), queue="q", work=work, offline=offline, published_at=NOW))


def ti_id(record: JobRecord) -> str:
    assert record.task is not None
    return record.task.ti_id


def started() -> JobRecord:
    return transition(waiting(), Start("w", 1, NOW))


def in_user_code() -> JobRecord:
    return transition(started(), ReportUserCode("w", "host", 7, NOW))


def row(record: JobRecord, state: str | None = "running", **more: Any) -> TaskRow:
    fields: dict[str, Any] = {"dispatch": record.id, "last_heartbeat_at": NOW}
    return TaskRow(state=state, **{**fields, **more})


@pytest.mark.parametrize("state", ["queued", "running", "restarting"])
def test_a_wanted_job_is_left_alone(state: str) -> None:
    for record in (waiting(), started(), in_user_code()):
        assert unwanted(record, row(record, state)) is None


@pytest.mark.parametrize("state", ["success", "failed", "skipped", "scheduled", "removed", "deferred", None])
def test_a_job_whose_task_is_in_any_other_state_is_unwanted(state: str | None) -> None:
    record = in_user_code()
    assert unwanted(record, row(record, state)) is not None


def test_a_cleared_or_newly_dispatched_task_is_unwanted() -> None:
    record = waiting()
    assert "cleared" in str(unwanted(record, None))
    assert "again" in str(unwanted(record, row(record, "queued", dispatch=str(uuid.uuid4()))))


def test_a_job_on_its_way_to_the_end_is_not_stopped() -> None:
    """The row it sees may be its own final state."""
    finishing = transition(in_user_code(), BeginFinishing("w"))
    assert unwanted(finishing, row(finishing, "success")) is None
    assert unwanted(finishing, None) is None
    stopping = transition(in_user_code(), Withdraw("marked failed", NOW))
    assert stopping.state is JobState.STOPPING
    assert unwanted(stopping, None) is None


def due(record: JobRecord, found: TaskRow | None, *, silent_s: float = 0) -> bool:
    return is_due(record, found, silent_for_s=silent_s, now=NOW, settings=SETTINGS)


def test_a_beat_is_due_after_a_third_of_airflows_timeout() -> None:
    record = in_user_code()
    assert not due(record, row(record, last_heartbeat_at=NOW - timedelta(seconds=99)))
    assert due(record, row(record, last_heartbeat_at=NOW - timedelta(seconds=101)))
    assert due(record, row(record, last_heartbeat_at=None))


def test_no_beat_for_whom_it_would_be_a_lie() -> None:
    record, old = in_user_code(), NOW - timedelta(seconds=200)
    assert due(record, row(record, last_heartbeat_at=old), silent_s=600)
    assert not due(record, row(record, last_heartbeat_at=old), silent_s=601)
    assert not due(record, row(record, "success", last_heartbeat_at=old))
    assert not due(record, row(record, last_heartbeat_at=old, dispatch="another"))
    assert not due(record, None)
    accepted = AnswerWrite("w", WriteAnswer(request_id="12345678", status=204, body=""), "success")
    for unfit in (started(), transition(record, accepted), transition(record, Withdraw("x", NOW))):
        assert not due(unfit, row(unfit, last_heartbeat_at=old))


def test_a_final_state_that_is_long_on_its_way_does_not_end_the_beats() -> None:
    """The api-server was away when it came, and now the link is: within the tolerance Airflow must continue waiting."""
    record, old = transition(in_user_code(), BeginFinishing("w")), NOW - timedelta(seconds=200)
    assert due(record, row(record, last_heartbeat_at=old), silent_s=600)
    assert not due(record, row(record, "success", last_heartbeat_at=old))


async def test_what_runs_is_looked_at_each_time_and_much_that_waits_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_watch, "WAITING_AT_ONCE", 4)
    records = [waiting() for _ in range(10)] + [in_user_code(), started()]
    auxiliary = new_record(make_auxiliary_job())
    looks: list[list[str]] = []

    class Rows:
        async def many(self, ti_ids: Iterable[str]) -> dict[str, TaskRow]:
            looks.append(list(ti_ids))
            return {ti_id(record): row(record) for record in records}

    view: Any = SimpleNamespace(unfinished=lambda: [auxiliary, *records])
    withdrawals: Any = None  # nothing is unwanted
    looking = DatabaseWatch(view, cast("Dispatches", Rows()), withdrawals, lambda *_: None, metrics=KeeperMetrics())
    for _ in range(3):
        await looking.check()
    assert [len(look) for look in looks] == [6, 6, 6]
    assert all({ti_id(record) for record in records[10:]} <= set(look) for look in looks)
    assert {looked_at for look in looks for looked_at in look} == {ti_id(record) for record in records}


def test_looks_follow_each_other_as_fast_as_they_are_cheap() -> None:
    assert database_watch.period_s(0.01) == 0.25
    assert database_watch.period_s(0.1) == 0.4
    assert database_watch.period_s(0.25) == 0.8  # 8,000 running tasks
    assert database_watch.period_s(5) == 5.1  # a database that is slow is not asked without a pause


async def test_two_dispatches_of_one_task_instance_are_told_apart() -> None:
    """The older one is unwanted and the newer one is not, though they share a row."""
    old = in_user_code()
    new = old.model_copy(update={"id": str(uuid.uuid4())})
    withdrawn: list[str] = []

    class Rows:
        async def many(self, _: Iterable[str]) -> dict[str, TaskRow]:
            return {ti_id(new): row(new)}

    class Noted:
        async def withdraw(self, record: JobRecord, _why: Unwanted) -> None:
            withdrawn.append(record.id)

    view: Any = SimpleNamespace(unfinished=lambda: [old, new])
    withdrawals: Any = Noted()
    await DatabaseWatch(view, cast("Dispatches", Rows()), withdrawals, lambda *_: None, metrics=KeeperMetrics()).check()
    assert withdrawn == [old.id]


async def test_a_nats_that_refuses_a_withdrawal_does_not_end_the_watch() -> None:
    """Without room on its disk, say. The keeper would end, and with it the beats for all that runs."""

    class Full:
        async def change(self, _job: str, _event: object) -> Any:
            raise JetStreamError(10047, "insufficient storage resources available")

    withdrawals: Any = Withdrawals
    with structlog.testing.capture_logs() as logs:
        await withdrawals(None, Full(), KeeperMetrics()).withdraw(in_user_code(), Unwanted("state", "marked failed"))
    assert [line["event"] for line in logs] == ["withdraw_refused"]


async def test_a_beat_that_is_refused_is_not_tried_at_each_look() -> None:
    """An api-server that refuses the beats of a large fleet would be asked for each of them four times a second."""
    refused, taken = in_user_code(), in_user_code()
    sent: list[str] = []

    class Api:
        async def call(self, who: TokenSubject, *_: object, **__: object) -> Answer:
            sent.append(who.id)
            return Answer(204 if who.id == ti_id(taken) else 422, b"", {})

    anything: Any = SimpleNamespace(silent_for=lambda _: 0.0)
    api: Any = Api()
    beats = TaskHeartbeats(anything, anything, anything, api, SETTINGS, metrics=KeeperMetrics())
    running = asyncio.create_task(beats.run())
    now = datetime.now(UTC)
    old = now - timedelta(seconds=200)
    rows = {record.id: row(record, last_heartbeat_at=old) for record in (refused, taken)}
    for number, later_s in enumerate((0, 0.3, 5, 12), start=1):
        beats.add_due([refused, taken], rows, now + timedelta(seconds=later_s))
        await eventually(lambda number=number: sent.count(ti_id(taken)) == number)  # type: ignore[misc]  # mypy can't infer it
        await asyncio.sleep(0)
    assert sent.count(ti_id(refused)) == 2
    running.cancel()
    await asyncio.wait({running})
