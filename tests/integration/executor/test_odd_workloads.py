"""A workload that can't be sent, or a record that can't be read, harms only itself: no loop restarts."""

import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.executors.workloads import ExecuteCallback
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_bridge.airflow.dispatch_table import Entry, Report, Verb
from edge_bridge.airflow.mapping import Row
from edge_bridge.executor.background import Background
from edge_broker.bucket import Bucket
from edge_broker.subjects import RECORDS_BUCKET
from edge_schemas.life.events import Finish, Release, Start
from edge_schemas.wire.jobs import Job
from support.nats.server import eventually
from support.relay.jobs import make_auxiliary_job

Centres = Callable[..., Any]
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def _queues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__CALLBACK_QUEUE", "calls")


@pytest.fixture(autouse=True)
def _awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow waits for each callback: as if all were in its database, which could not hold some of them."""

    async def read_rows(entries: Iterable[Entry]) -> dict[str, Row]:
        return {entry.job: Row("queued", entry.dispatch) for entry in entries}

    monkeypatch.setattr("edge_bridge.airflow.auxiliary_jobs.read_rows", read_rows)


@pytest.fixture
def restarts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often the executor's loops were started."""
    starts: list[str] = []
    serve = Background._serve

    async def counted(self: Background) -> None:
        starts.append("started")
        await serve(self)

    monkeypatch.setattr(Background, "_serve", counted)
    return starts


def callback(**kwargs: Any) -> ExecuteCallback:
    """As the scheduler hands it out."""
    return ExecuteCallback.model_validate(
        {
            "token": "a token",
            "callback": {
                "id": str(uuid.uuid4()),
                "fetch_method": "import_path",
                "data": {"path": "a.b", "kwargs": kwargs, "dag_run_id": 1},
            },
            "dag_rel_path": "d.py",
            "bundle_info": {"name": "b"},
            "log_path": "executor_callbacks/d/r/1",
        }
    )


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


ODD: dict[str, dict[str, Any]] = {
    "lone surrogate": {"file": "caf\udce9.csv"},
    "surrogate as a key": {"caf\udce9": 1},
    "too deep": {"value": nested(5000)},
    "no plain data": {"value": object()},
    "too large": {"value": "x" * 2_000_000},
    "just too large to grow": {"value": "x" * 950_000},
}


async def test_each_odd_callback_fails_with_its_reason_and_the_next_one_is_published(
    centres: Centres, edge: Any, restarts: list[str]
) -> None:
    centre = centres()
    executor = centre.executor
    odd = {name: callback(**kwargs) for name, kwargs in ODD.items()}
    good = callback(name="plain \U0001f600 \x00 text")
    executor._process_workloads([*odd.values(), good])
    await edge.appears(str(good.callback.id))
    for name, workload in odd.items():
        await eventually(lambda: executor.sync() or workload.key in executor.event_buffer, what=name)  # noqa: B023
        state, why = executor.event_buffer[workload.key]
        assert state == "failed", name
        assert "can't be sent to an edge site" in why, name
        assert await edge.record(str(workload.callback.id)) is None, name
    assert len(executor._background.publisher) == 0
    assert restarts == ["started"]


async def test_an_unexpected_error_while_publishing_refuses_one_job(
    centres: Centres, edge: Any, restarts: list[str]
) -> None:
    """Whatever the error is: the loops would meet the same job first after each restart."""
    centre = centres()
    background = centre.executor._background
    made = make_auxiliary_job("calls")
    broken = made.model_copy(update={"work": made.work.model_copy(update={"workload": {"a": "\udce9"}})})
    good = make_auxiliary_job("calls")
    centre.executor._portal.post(background.publish, [], [broken, good])
    await edge.appears(good.id)
    await eventually(lambda: not len(background.publisher))
    assert restarts == ["started"]


async def test_what_is_just_small_enough_can_live_its_life(centres: Centres, edge: Any) -> None:
    """A record that fills a message when it is published could never be started."""
    centre = centres()
    workload = callback(value="x" * 910_000)
    centre.executor._process_workloads([workload])
    job = str(workload.callback.id)
    await edge.appears(job)
    for number in range(4):
        await edge.do(job, Release("w", "\x01" * 500, counted=True, at=NOW, grant=f"{number}"))
    await edge.do(job, Start("w", 1, NOW, "grant"))
    await edge.do(job, Finish("w", 1, "\x01" * 1000, NOW, grant="grant"))


@pytest.mark.parametrize("value", [b"", b"{", b'{"state": "paused"}', b"\xff\xfe", b"null", b"[" * 100_000])
async def test_a_record_that_cannot_be_read_stops_no_loop(
    value: bytes, centres: Centres, edge: Any, restarts: list[str]
) -> None:
    """Neither the watch of the records nor the comparison nor the repair of messages."""
    centre = centres()
    executor = centre.executor
    background = executor._background
    odd, good = callback(), callback()
    executor._process_workloads([odd, good])
    for workload in (odd, good):
        await edge.appears(str(workload.callback.id))
    await Bucket(edge.broker, RECORDS_BUCKET).put(str(odd.callback.id), value)
    entry = background.dispatches.get(str(odd.callback.id))
    await eventually(lambda: entry.unreadable_since is not None)
    executor._portal.post(background._messages.put_nowait, str(odd.callback.id))
    await edge.start(str(good.callback.id))
    await edge.do(str(good.callback.id), Finish("w", 1, "\x00 ended", NOW))
    await eventually(lambda: executor.sync() or executor.event_buffer.get(good.key, ("",))[0] == "failed")
    assert executor.event_buffer[good.key][1].endswith("\N{REPLACEMENT CHARACTER} ended")
    assert executor._portal.call(lambda: _compare_records(background), 10)
    assert restarts == ["started"]
    assert background.metrics._metrics.aside.labels("", "record")._value.get() >= 1


async def _compare_records(background: Any) -> bool:
    reconciler = background.reconciler
    reconciler._settle_s = -1
    for step in (reconciler.compare_tasks, reconciler.compare_auxiliary_jobs, reconciler.adopt_auxiliary_jobs):
        await reconciler._try(step, *background._connection)
    return True


@given(st.text(max_size=3000))
def test_a_reason_can_be_stored_by_any_database(reason: str) -> None:
    """PostgreSQL refuses a NUL, and Python can't encode a lone surrogate; the scheduler would end."""
    info = Report("key", "job", Verb.FAIL, reason).info
    assert info is not None
    info.encode()
    assert "\x00" not in info
    assert len(info) <= 2000


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kwargs=st.dictionaries(st.text(), JSON_LIKE, max_size=4))
def test_a_workload_becomes_a_job_that_arrives_as_it_is_or_is_refused(
    kwargs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_bridge.airflow.mapping import JobMaker, JobRefused
    from edge_bridge.airflow.queues import QueueRules, Queues
    from edge_schemas.wire.jobs import AuxiliaryKind
    from edge_schemas.wire.offline import OfflinePolicy

    monkeypatch.setattr("edge_bridge.airflow.mapping.traceparent_of", lambda _: None)
    maker = JobMaker("e", None, Queues(QueueRules(OfflinePolicy())), {AuxiliaryKind.CALLBACK: "calls"})
    try:
        job = maker.auxiliary(callback(**kwargs), NOW)
    except JobRefused:
        return
    assert Job.model_validate_json(job.model_dump_json(exclude_none=True)) == job
