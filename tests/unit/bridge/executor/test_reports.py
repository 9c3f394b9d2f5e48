"""Records watched and reports handed over: only for the current dispatch, and only what is new."""

import asyncio
import uuid
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from edge_bridge.airflow import auxiliary_jobs
from edge_bridge.airflow.dispatch_table import DispatchTable, Entry, Report, Verb
from edge_bridge.executor.metrics import ExecutorMetrics
from edge_bridge.executor.reports import Reports
from edge_schemas.life.events import Finish, GiveUp, Redrive, Release, Start, Withdraw
from edge_schemas.life.model import new_record
from edge_schemas.life.transition import transition
from edge_schemas.wire.jobs import AuxiliaryJob, AuxiliaryKind, Job
from support.nats.server import eventually
from support.relay.jobs import make_auxiliary_job, make_job

NOW = datetime.now(UTC)


class Watched:
    """Reports of one job whose records are fed by hand."""

    def __init__(self, job: Job | None = None) -> None:
        job = job or make_job()
        self.record = new_record(job)
        self.entry = Entry(key="k", job=job.id, dispatch=job.id, task=job.task, auxiliary=job.auxiliary)
        self.dispatches = DispatchTable()
        self.dispatches.add([self.entry])
        self.wanted: list[str] = []
        self.gone: list[str] = []
        self.reports = Reports(self.dispatches, self.wanted.append, self.gone.append, ExecutorMetrics().of(None))

    def see(self, *events: Any) -> None:
        """The watch delivers the record after each event."""
        for event in events:
            self.record = transition(self.record, event)
            self.reports.on_record(self.record.id, self.record.model_dump_json(exclude_none=True).encode())


def test_only_started_jobs_count() -> None:
    watched = Watched()
    watched.reports.on_record(watched.record.id, watched.record.model_dump_json().encode())
    assert watched.dispatches.started == 0
    watched.see(Start("w", 1, NOW))
    assert watched.dispatches.started == 1
    watched.see(Finish("w", 0, None, NOW))
    assert watched.dispatches.started == 0
    assert watched.entry.report is not None


def test_a_job_that_waits_again_wants_its_message() -> None:
    watched = Watched()
    watched.see(Start("w", 1, NOW), GiveUp("silent", NOW))
    assert watched.wanted == [watched.record.id]
    watched.see(*(Release("w", "why", counted=True, at=NOW, grant=f"g{n}") for n in range(5)))
    assert [r.verb for r in watched.reports.unsent] == [Verb.NOTE]
    watched.wanted.clear()
    watched.see(Redrive("fixed", NOW))
    assert watched.wanted == [watched.record.id]


def test_a_job_given_back_wants_its_message_even_if_nobody_saw_it_run() -> None:
    """It may be started and given back before the watch comes round."""
    watched = Watched()
    watched.see(Redrive("fixed", NOW))
    watched.wanted.clear()
    watched.record = transition(watched.record, Start("w", 1, NOW, grant="g"))
    watched.see(Finish("w", None, "no runtime", NOW, release=True))
    assert watched.wanted == [watched.record.id]


def test_a_waiting_job_that_is_new_here_may_lack_its_message() -> None:
    """A dead scheduler has held it back."""
    watched = Watched()
    watched.see(Redrive("fixed", NOW))
    watched.see(Redrive("fixed", NOW))
    assert watched.wanted == [watched.record.id]


def test_an_auxiliary_job_says_when_it_starts_and_is_never_handed_out_again() -> None:
    watched = Watched(make_auxiliary_job())
    watched.see(Start("w", 1, NOW), GiveUp("silent", NOW))
    assert [r.verb for r in watched.reports.unsent] == [Verb.RUN]
    assert watched.wanted == []
    assert watched.entry.report is not None
    assert watched.entry.report.verb is Verb.FAIL


def test_other_jobs_and_unreadable_records_change_nothing() -> None:
    watched = Watched()
    watched.reports.on_record(str(uuid.uuid4()), b"not even looked at")
    watched.reports.on_record(watched.record.id, b"{}")
    watched.reports.on_record(watched.record.id, None)
    assert watched.entry.state is None
    assert not watched.reports.unsent


def test_the_end_is_noted_once() -> None:
    """A record seen again, from a listing or a slow watch, is not another end."""
    watched = Watched()
    watched.see(Start("w", 1, NOW), Finish("w", 1, "boom", NOW))
    first = watched.entry.report
    watched.see(Finish("w", 1, "boom", NOW))
    assert watched.entry.report is first
    assert first is not None
    assert first.verb is Verb.FAIL


class NothingPending(tuple[()]):
    """A publisher without jobs."""

    __slots__ = ()
    versions: tuple[()] = ()


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> Any:
    from edge_bridge.executor.relay_executor import RelayExecutor

    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "s" * 64)
    made: Any = RelayExecutor()
    made._background = SimpleNamespace(
        reports=Reports(DispatchTable(), lambda _: None, lambda _: None, ExecutorMetrics().of(None)),
        dispatches=DispatchTable(),
        publisher=NothingPending(),
        order=SimpleNamespace(held=0),
        connected=True,
        metrics=ExecutorMetrics().of(None),
    )
    return made


def test_sync_drops_reports_of_older_dispatches(executor: Any) -> None:
    """The key is the same, the dispatch is not: an event would fail the newer one."""
    from airflow.models.taskinstancekey import TaskInstanceKey

    key = TaskInstanceKey("d", "t", "r", 1)
    executor._current.follow(key, "new")
    executor._background.reports.unsent.extend(
        [Report(key, "old", Verb.FAIL, "late"), Report(key, "old", Verb.FORGET), Report(key, "old", Verb.SUCCEED)]
    )
    executor.sync()
    assert executor.get_event_buffer() == {}
    assert executor.running == {key}
    executor._background.reports.unsent.append(Report(key, "new", Verb.FAIL, "boom"))
    executor.sync()
    assert executor.get_event_buffer() == {key: ("failed", "boom")}
    assert executor.running == set()


def test_a_callback_that_another_scheduler_has_told_of_is_not_set_running_again(executor: Any) -> None:
    """Airflow takes any event of a callback, whatever its state: it would be running for ever."""
    key = auxiliary_jobs.key_of(AuxiliaryJob(kind=AuxiliaryKind.CALLBACK, id=str(uuid.uuid4())))
    executor._background.reports.unsent.extend(Report(key, "j", verb) for verb in (Verb.FOLLOW, Verb.RUN, Verb.FORGET))
    executor.sync()
    assert executor.get_event_buffer() == {}
    assert executor.running == set()


def test_a_report_may_be_repeated_until_it_is_settled(executor: Any) -> None:
    from airflow.models.taskinstancekey import TaskInstanceKey

    key = TaskInstanceKey("d", "t", "r", 1)
    executor._current.follow(key, "j")
    unsent = executor._background.reports.unsent
    for _ in range(2):
        unsent.append(Report(key, "j", Verb.FAIL, "boom"))
        executor.sync()
        assert executor.get_event_buffer() == {key: ("failed", "boom")}
        assert not executor.has_task(SimpleNamespace(id=None, key=key))
    unsent.extend([Report(key, "j", Verb.FORGET), Report(key, "j", Verb.FAIL, "after the end")])
    executor.sync()
    assert executor.get_event_buffer() == {}


async def test_a_job_that_ended_unstarted_is_rid_of_its_message() -> None:
    watched = Watched()
    watched.see(Withdraw("marked failed", NOW))
    assert watched.wanted == [watched.record.id]
    started = Watched()
    started.see(Start("w", 1, NOW), Finish("w", 0, None, NOW))
    assert started.wanted == []


async def test_reports_continue_where_a_former_run_was_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The background starts again after a failure of any of its loops; a report under way must not wait for another."""
    hangs, asked = asyncio.Event(), asyncio.Event()

    async def look(_: object) -> dict[Any, Any]:
        asked.set()
        if not hangs.is_set():
            await asyncio.Event().wait()
        return {}

    monkeypatch.setattr("edge_bridge.airflow.tasks.read_rows", look)
    watched = Watched()
    watched.see(Start("w", 1, NOW), Finish("w", 1, "boom", NOW))
    first = asyncio.create_task(watched.reports.run())
    await asked.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    hangs.set()
    second = asyncio.create_task(watched.reports.run())
    await eventually(lambda: [r.verb for r in watched.reports.unsent] == [Verb.FORGET], what="the report")
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
