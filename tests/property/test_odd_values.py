"""Whatever is stored or sent, no loop of keeper, executor or relay ends by it, and what is good beside it is handled.

Each example is a valid record or entry in which some parts were replaced, or bytes that are none. Other
tests do the same with answers to workers (tests/unit/worker/relay/test_poll_answer.py) and with workloads
(tests/integration/executor/test_odd_workloads.py).
"""

import asyncio
import json
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_bridge.airflow.dispatch_table import DispatchTable, Entry
from edge_bridge.executor.metrics import ExecutorMetrics
from edge_bridge.executor.reports import Reports
from edge_bridge.keeper.cluster_view import ClusterView
from edge_bridge.keeper.database_watch import DatabaseWatch
from edge_bridge.keeper.dispatch import TaskRow
from edge_bridge.keeper.gate.upstream import Answer
from edge_bridge.keeper.give_up_figures import GiveUpFigures
from edge_bridge.keeper.metrics import KeeperMetrics
from edge_bridge.keeper.task_heartbeats import HeartbeatSettings, TaskHeartbeats
from edge_bridge.keeper.withdrawals import Withdrawals
from edge_bridge.tracing import CentreJobSpans
from edge_broker.audit import Audit
from edge_broker.bucket import Bucket
from edge_broker.record_mover import RecordMover
from edge_broker.records import BeforeChange, RecordUnreadable, parse_record
from edge_broker.subjects import ACCESS_BUCKET
from edge_relay.desired.state import DesiredState
from edge_relay.dispatch.directives import directives
from edge_relay.fleet.workers.index import WorkerIndex
from edge_relay.fleet.workers.rows import worker_row
from edge_relay.identity.lookups import Lookups
from edge_relay.limits.kinds import ignore
from edge_relay.metrics.fleet import Fleet
from edge_schemas.life import agents
from edge_schemas.life.events import Event, ReportUserCode, Start
from edge_schemas.life.model import JobRecord, JobState, new_record
from edge_schemas.life.transition import transition
from edge_schemas.wire.polls import Poll
from edge_schemas.wire.worker_entry import AgentSeen, WorkerEntry
from edge_schemas.wire.worker_report import JobPhase, JobReport, WorkerHealth, WorkerVersions
from edge_schemas.wire.workers import WorkerAccess, WorkerSettings
from edge_service.tracing import Spans
from edge_upkeep.give_up import GiveUps
from support.nats.server import eventually
from support.relay.jobs import make_auxiliary_job, make_job
from support.relay.parts import credentials_of

_FEW, _MANY = settings(max_examples=50), settings(max_examples=5000)

NOW = datetime.now(UTC)
VERSIONS = WorkerVersions(agent="1", python="3", platform="linux")


def running(*, auxiliary: bool = False) -> JobRecord:
    record = transition(
        new_record(make_auxiliary_job() if auxiliary else make_job()), Start("w", 1, NOW, "grant", "key")
    )
    return record if auxiliary else transition(record, ReportUserCode("w", "host", 4711, NOW))


def entry(*jobs: str) -> WorkerEntry:
    agent = AgentSeen(
        instance="i", incarnation=1, seq=1, arrival=uuid.uuid4().hex, host="", address="", last_poll_at=NOW
    )
    reports = tuple(JobReport(id=job, phase=JobPhase.RUNNING) for job in jobs)
    figures = {"slots": 4, "free": 4, "draining": False, "versions": VERSIONS, "health": WorkerHealth()}
    return WorkerEntry.model_validate(
        {"worker": "w", "site": "s", "agent": agent, "relay": "r", "poll_timeout_s": 50, "jobs": reports, **figures}
    )


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, 2**64, -(2**70), 10**400, 1e308, float("inf"), float("nan")])
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\x00", "\udce9", "x" * 5000, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
    | st.sampled_from([str(uuid.uuid4()), "waiting", "running", "stopping", "ended", "success"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any) -> Iterator[tuple[Any, str]]:
    """Each part of a value, however deep: what contains it, and its name."""
    for name, part in value.items() if isinstance(value, dict) else ():
        yield value, name
        yield from places(part)


@st.composite
def altered(draw: st.DrawFn, valid: dict[str, Any]) -> bytes:
    """A value with some parts replaced or removed; sometimes no value at all."""
    value: Any = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(0, 3))):
        where, name = draw(st.sampled_from(list(places(value)) or [(value, "added")]))
        if draw(st.integers(0, 4)):
            where[name] = draw(ODD)
        else:
            where.pop(name, None)
    raw = json.dumps(value).encode()
    return draw(st.sampled_from([raw, raw, raw, raw, raw[: len(raw) // 2], b"", b"\xff\xfe", b"[" * 2000, b"null"]))


class Store:
    """The bucket of records in memory: the very parsing and transition, without NATS."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def change(self, job: str, event: Event, *, first: BeforeChange | None = None) -> tuple[JobRecord, JobRecord]:
        before = parse_record(job, self.values.get(job))
        after = transition(before, event)
        assert before is not None
        if first is not None:
            await first(before, after)
        self.values[job] = after.model_dump_json(exclude_none=True).encode()
        return before, after


class Keeper:
    """All loops of a keeper, one turn each, before the parts that they share."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.store = Store()
        self.beats: list[str] = []
        self.metrics = metrics = KeeperMetrics()
        broker: Any = SimpleNamespace(
            connected=True, on_connection=lambda _: None, publish=self._nothing, store=self._nothing
        )
        store: Any = self.store
        self.view = ClusterView(broker, RecordMover(store), metrics.put_aside, clock=lambda: self.now)
        self.view._watched_records.complete.set()
        self.view._watched_workers.complete.set()
        anything: Any = self
        withdrawals = Withdrawals(broker, store, metrics)
        beat = HeartbeatSettings(timedelta(seconds=300))
        self.heartbeats = TaskHeartbeats(self.view, anything, withdrawals, anything, beat, metrics=metrics)
        self.watch = DatabaseWatch(self.view, anything, withdrawals, self._on_checked, metrics=metrics)
        audit, spans = Audit(broker, "keeper k"), CentreJobSpans(Spans())
        self.give_ups = GiveUps(anything, broker, store, audit, GiveUpFigures(metrics, spans))
        self.unfinished, self.worker, self.silent_for = self.view.unfinished, self.view.worker, self.view.silent_for

    async def _nothing(self, *_: object) -> None:
        return None

    @property
    def relay_time(self) -> datetime:
        return datetime.now(UTC)

    async def refresh_worker(self, _: str) -> None:
        return None

    async def many(self, ti_ids: Iterable[str]) -> dict[str, TaskRow]:
        records = {record.task.ti_id: record for record in self.view.unfinished() if record.task is not None}
        return {ti_id: TaskRow("running", records[ti_id].id, None) for ti_id in ti_ids if ti_id in records}

    async def call(self, subject: object, _call: object, **_: object) -> Answer:
        self.beats.append(str(subject))
        return Answer(204, b"", {})

    def _on_checked(self, records: list[JobRecord], rows: Any) -> None:
        self.heartbeats.add_due(records, rows, datetime.now(UTC))

    def put(self, key: str, value: bytes) -> None:
        self.store.values[key] = value
        self.view._update_record(key, value)

    async def turn(self) -> None:
        await self.watch.check()
        while not self.heartbeats._due.empty():
            await self.heartbeats._send_one(self.heartbeats._due.get_nowait())
        self.now += 10_000_000
        self.view._contact.record_sign(self.now)
        await self.give_ups.check()
        self.now += 10_000_000
        self.view._contact.record_sign(self.now)


RECORDS = [json.loads(running(auxiliary=auxiliary).model_dump_json()) for auxiliary in (False, True)]
ENTRY = json.loads(entry(*(record["id"] for record in RECORDS)).model_dump_json())
RECORD_VALUES = st.sampled_from(RECORDS).flatmap(lambda valid: st.tuples(st.just(valid["id"]), altered(valid)))


LISTS = {"records": st.lists(RECORD_VALUES, min_size=1, max_size=3), "entries": st.lists(altered(ENTRY), max_size=2)}


@_FEW
@given(**LISTS)
def test_no_record_and_no_entry_ends_a_loop_of_the_keeper(
    records: list[tuple[str, bytes]], entries: list[bytes]
) -> None:
    _feed_keeper(records, entries)


@pytest.mark.soak
@_MANY
@given(**LISTS)
def test_no_record_and_no_entry_ends_a_loop_of_the_keeper_for_long(
    records: list[tuple[str, bytes]], entries: list[bytes]
) -> None:
    _feed_keeper(records, entries)


def _feed_keeper(records: list[tuple[str, bytes]], entries: list[bytes]) -> None:
    async def run() -> None:
        keeper, good = Keeper(), running()
        for job, value in records:
            keeper.put(job, value)
        for value in entries:
            keeper.view._update_worker("w", value)
        keeper.put(good.id, good.model_dump_json().encode())
        await keeper.watch.check()
        assert good.id in keeper.heartbeats._under_way, "its task gets its heartbeat"
        await keeper.turn()
        assert keeper.beats

    asyncio.run(run())


async def test_a_heartbeat_that_cannot_be_made_stops_no_other() -> None:
    """A worker names the process with `/run`; JSON has numbers of any size, and the heartbeat 64 bits."""
    keeper, odd, good = Keeper(), running(), running()
    assert odd.user_code is not None
    odd = odd.model_copy(update={"user_code": odd.user_code.model_copy(update={"pid": 2**70})})
    for record in (odd, good):
        keeper.put(record.id, record.model_dump_json().encode())
    await keeper.watch.check()
    sending = asyncio.create_task(keeper.heartbeats.run())
    await eventually(lambda: not keeper.heartbeats._under_way)
    assert not sending.done()
    sending.cancel()
    assert len(keeper.beats) == 1
    assert keeper.metrics.registry.get_sample_value("edge_keeper_put_aside_total", {"step": "heartbeat"}) == 1


@_FEW
@given(value=RECORD_VALUES)
def test_no_record_ends_a_loop_of_the_executor(value: tuple[str, bytes]) -> None:
    _feed_executor(value)


@pytest.mark.soak
@_MANY
@given(value=RECORD_VALUES)
def test_no_record_ends_a_loop_of_the_executor_for_long(value: tuple[str, bytes]) -> None:
    _feed_executor(value)


def _feed_executor(value: tuple[str, bytes]) -> None:
    dispatches = DispatchTable()
    reports = Reports(dispatches, lambda _: None, lambda _: None, ExecutorMetrics().of(None))
    job, raw = value
    for one in (job, (good := running()).id):
        dispatches.add([Entry(one, one, dispatch=one)])
    reports.on_record(job, raw)
    reports.on_record(good.id, good.model_dump_json().encode())
    seen = dispatches.get(good.id)
    assert seen is not None
    assert seen.state is JobState.RUNNING


ACCESS = json.loads(
    WorkerAccess(
        worker="w", secret_hash="0" * 64, site="s", settings=WorkerSettings(version=1, queues=("q",)), enrolled_at=NOW
    ).model_dump_json()
)
POLL = Poll(
    protocol=1,
    incarnation=1,
    seq=1,
    slots=4,
    free=4,
    jobs=tuple(JobReport(id=record["id"], phase=JobPhase.RUNNING) for record in RECORDS),
    versions=VERSIONS,
)


STORED = {"access": altered(ACCESS), "last_poll": altered(ENTRY), "record": RECORD_VALUES}


@_FEW
@given(**STORED)
def test_no_stored_value_ends_a_loop_of_the_relay(access: bytes, last_poll: bytes, record: tuple[str, bytes]) -> None:
    _feed_relay(access, last_poll, record)


@pytest.mark.soak
@_MANY
@given(**STORED)
def test_no_stored_value_ends_a_loop_of_the_relay_for_long(
    access: bytes, last_poll: bytes, record: tuple[str, bytes]
) -> None:
    _feed_relay(access, last_poll, record)


def _feed_relay(access: bytes, last_poll: bytes, record: tuple[str, bytes]) -> None:
    broker: Any = SimpleNamespace(connected=True, lost_at=None, on_connection=lambda _: None)
    lookups = Lookups(Bucket(broker, ACCESS_BUCKET), per_s=1, per_address_per_s=1, on_limit=ignore)
    desired = DesiredState(broker)
    credentials = credentials_of(broker, lookups, desired)
    fleet = Fleet(broker, credentials)
    for prefix in ("worker.", "access.", "enroll.", "name.", ""):
        credentials._apply(prefix + "0" * 64, access)
    fleet.apply("w", last_poll)
    list(fleet.collect())
    try:
        stored = WorkerEntry.model_validate_json(last_poll)
    except ValueError:
        stored = None
    if stored is not None:
        views = WorkerIndex(fleet, credentials, DesiredState(broker))
        view = views.view(WorkerAccess.model_validate(ACCESS))
        worker_row(view, stored, (), "3.1.0", datetime.now(UTC))
        agents.has_taken_over(stored, datetime.now(UTC))
        agents.current_arrival(stored, stored.agent)
    try:
        found = parse_record(*record)
    except RecordUnreadable:
        return
    directives("w", POLL, {record[0]: found}, WorkerSettings(version=1, queues=("q",)))
