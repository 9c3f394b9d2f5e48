"""A job's record is moved to the ended ones while its executor does not watch: the executor learns of the end."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from edge_bridge.executor import background
from edge_bridge.executor.reports import Reports
from edge_broker.subjects import RECORDS_BUCKET, kv_stream, kv_subject
from edge_schemas.life.events import Finish, Withdraw
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.jobs import Job
from support.airflow.airflow_home import dag_run, set_task, task_rows
from support.nats.server import eventually

Centres = Callable[[], Any]
NOW = datetime.now(UTC)


async def _move(edge: Any, job: str, *, mark: bool) -> None:
    await edge.store.move_ended(job)
    if not mark:
        await edge.broker.api(f"STREAM.PURGE.{kv_stream(RECORDS_BUCKET)}", {"filter": kv_subject(RECORDS_BUCKET, job)})


async def _running(centre: Any, edge: Any, dag: Any) -> str:
    job: str = centre.dispatch(dag)["t0"]
    await edge.appears(job)
    await edge.start(job)
    set_task(dag.dag_id, "t0", state="running")
    await eventually(lambda: centre.executor.slots_occupied == 1)
    return job


@pytest.mark.parametrize("mark", [True, False])
async def test_a_job_that_ended_while_the_loops_were_down(
    centres: Centres, edge: Any, monkeypatch: pytest.MonkeyPatch, *, mark: bool
) -> None:
    """The watch that comes after shows the mark at most."""
    monkeypatch.setattr(background, "RESTART_S", 2.0)
    centre = centres()
    with dag_run(1, retries=1) as dag:
        job = await _running(centre, edge, dag)
        loops = centre.executor._background

        def fail(_: object) -> None:
            monkeypatch.undo()
            raise RuntimeError("a bug")

        monkeypatch.setattr(loops.queue_timeouts, "warn", fail)
        await eventually(lambda: not loops._is_started.is_set())
        await edge.finish(job, "no power")
        await _move(edge, job, mark=mark)
        assert not loops._is_started.is_set()
        await centre.beats_until(lambda: task_rows(dag.dag_id)["t0"].state == "up_for_retry")
        assert centre.executor.slots_occupied == 0


async def test_a_job_whose_end_the_watch_has_not_shown(
    centres: Centres, edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was disconnected for longer than ended records stay: then it is shown that the record is gone."""
    hidden = False
    show = Reports.on_record

    def only_gone(reports: Reports, job: str, value: bytes | None) -> None:
        if value is None or not hidden:
            show(reports, job, value)

    monkeypatch.setattr(Reports, "on_record", only_gone)
    centre = centres()
    with dag_run(1, retries=1) as dag:
        job = await _running(centre, edge, dag)
        hidden = True
        await edge.finish(job, "no power")
        await edge.store.move_ended(job)
        await centre.beats_until(lambda: task_rows(dag.dag_id)["t0"].state == "up_for_retry")
        assert centre.executor.slots_occupied == 0


@pytest.mark.parametrize("started", [True, False])
async def test_an_ended_job_is_adopted_and_reported(centres: Centres, edge: Any, *, started: bool) -> None:
    """Its scheduler has died; without its end the task would be scheduled again, or wait for ever."""
    first = centres()
    with dag_run(1, retries=1) as dag:
        job = first.dispatch(dag)["t0"]
        record = await edge.appears(job)
        if started:
            await edge.start(job)
            set_task(dag.dag_id, "t0", state="running")
        first.executor.terminate()
        first.scheduler.die()
        await edge.do(job, Finish("w", 1, "no power", NOW) if started else Withdraw("by an operator", NOW))
        await _move(edge, job, mark=False)
        second = centres()
        assert second.scheduler.adopt() == 0
        await second.beats_until(lambda: task_rows(dag.dag_id)["t0"].state == "up_for_retry")
        await eventually(lambda: _has_no_message(edge, record))


async def _has_no_message(edge: Any, record: JobRecord) -> bool:
    return await edge.message(record) is None


async def test_an_ended_dispatch_is_not_published_again(centres: Centres, edge: Any) -> None:
    """The same id again: from a scheduler without ids of its own, or one that repeats what was done long ago."""
    centre = centres()
    with dag_run(1) as dag:
        job = centre.dispatch(dag)["t0"]
        record = await edge.appears(job)
        await edge.start(job)
        await edge.finish(job, "no power")
        await _move(edge, job, mark=False)
        loops = centre.executor._background
        centre.executor._portal.call(lambda: _publish_again(loops, record.job), 10)
        assert centre.executor._portal.call(lambda: loops.flush(10), 11) == 0
        assert await edge.message(record) is None
        assert (await edge.record(job)).state is JobState.ENDED


async def _publish_again(loops: Any, job: Job) -> None:
    loops.publisher.publish_missing(job)
