"""Ends that the task's own process did not bring: waited too long, cancelled by an operator, lost with its worker."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from edge_schemas.life.events import Finish, GiveUp, ReportUserCode, Withdraw
from edge_schemas.life.model import JobState, Verdict
from support.airflow.airflow_home import dag_run, set_task, task_rows
from support.nats.server import eventually

Centres = Callable[[], Any]
SHORT = '{"short": {"queue_timeout": 1}}'


def reasons(dag_id: str, task: str) -> str:
    """What a user finds in Airflow's audit log."""
    from airflow.models.log import Log
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session(scoped=False) as session:
        return "\n".join(
            extra or "" for extra in session.scalars(select(Log.extra).where(Log.dag_id == dag_id, Log.task_id == task))
        )


async def runs(edge: Any, dag: Any, task: str, job: str) -> None:
    """A worker has the job and its user code runs, as Airflow knows."""
    await edge.appears(job)
    await edge.start(job)
    await edge.do(job, ReportUserCode("w", "host", 1, datetime.now(UTC)))
    set_task(dag.dag_id, task, state="running")


async def test_a_job_waits_no_longer_than_its_queue_allows(
    centres: Centres, edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retried by Airflow's rules, with the reason; one that was taken in time runs on, other queues wait on."""
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__QUEUES", SHORT)
    centre = centres()
    with dag_run(2, queue="short", retries=1) as short, dag_run(1, queue="long") as long:
        jobs = centre.dispatch(short)
        other = centre.dispatch(long)["t0"]
        dispatched = time.monotonic()
        late = await edge.appears(jobs["t0"])
        await runs(edge, short, "t1", jobs["t1"])
        await edge.appears(other)
        await centre.beats_until(lambda: task_rows(short.dag_id)["t0"].state == "up_for_retry")
        assert 1 <= time.monotonic() - dispatched < 4
        assert "no worker took it from queue 'short' within 1 s" in reasons(short.dag_id, "t0")
        assert (await edge.record(late.id)).outcome.verdict is Verdict.FAILED

        async def gone() -> bool:
            return await edge.message(late) is None

        await eventually(gone, what="no message")
        assert task_rows(short.dag_id)["t1"].state == "running"
        assert (await edge.record(other)).state is JobState.WAITING


async def test_waiting_counts_over_a_schedulers_death_and_while_parked(
    killed: Any, centres: Centres, edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__QUEUES", SHORT)
    with dag_run(2, queue="short") as dag:
        jobs = killed(dag)
        record = await edge.appears(jobs["t0"])
        await edge.park(jobs["t1"])
        await eventually(lambda: datetime.now(UTC) - record.created_at > timedelta(seconds=1))
        second = centres()
        assert second.scheduler.adopt() == 0
        adopted = time.monotonic()
        await second.beats_until(lambda: {row.state for row in task_rows(dag.dag_id).values()} == {"failed"})
        assert time.monotonic() - adopted < 4
        assert "no such runtime 4" in reasons(dag.dag_id, "t1")


async def test_a_job_that_was_given_back_waits_again(
    centres: Centres, edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker took it in time: that it had it for longer than a job may wait is no reason to fail it."""
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__QUEUES", SHORT)
    centre = centres()
    with dag_run(1, queue="short") as dag:
        job = centre.dispatch(dag)["t0"]
        record = await edge.appears(job)
        await edge.start(job)
        await eventually(lambda: datetime.now(UTC) - record.created_at > timedelta(seconds=1.5))
        given_back_at = datetime.now(UTC)
        await edge.do(job, Finish("w", None, "shut down", given_back_at, release=True))
        await centre.beats_until(lambda: task_rows(dag.dag_id)["t0"].state == "failed")
        assert (await edge.record(job)).outcome.ended_at - given_back_at >= timedelta(seconds=1)


async def test_without_a_time_out_waiting_is_no_fault(centres: Centres, edge: Any) -> None:
    """A worker that comes after a day runs the job."""
    centre = centres()
    with dag_run(1) as dag:
        job = centre.dispatch(dag)["t0"]
        await edge.appears(job)
        background = centre.executor._background
        await eventually(lambda: background.dispatches.get(job).state is JobState.WAITING)
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        centre.executor._portal.call(lambda: background.queue_timeouts.expire(background._connection[1], tomorrow), 5)
        centre.compare()
        await runs(edge, dag, "t0", job)
        assert task_rows(dag.dag_id)["t0"].state == "running"


async def test_what_an_operator_cancels_has_failed_with_the_reason(centres: Centres, edge: Any) -> None:
    """Running or waiting. What Airflow itself wanted to end is no failure: a cleared task runs again at once."""
    centre = centres()
    with dag_run(4) as dag:
        jobs = centre.dispatch(dag)
        for task in ("t0", "t2", "t3"):
            await runs(edge, dag, task, jobs[task])
        await edge.appears(jobs["t1"])
        set_task(dag.dag_id, "t2", state="restarting")
        set_task(dag.dag_id, "t3", state="success")
        for task, job in jobs.items():
            await edge.do(job, Withdraw("cancelled by ann", datetime.now(UTC)))
            if task != "t1":
                await edge.finish(job)
        expected = {"t0": "failed", "t1": "failed", "t2": None, "t3": "success"}
        await centre.beats_until(lambda: {t: r.state for t, r in task_rows(dag.dag_id).items()} == expected)
        for task in ("t0", "t1"):
            assert "cancelled by ann" in reasons(dag.dag_id, task)
        assert "cancelled by ann" not in reasons(dag.dag_id, "t3")


async def test_a_cancelled_job_does_not_touch_a_task_that_has_gone_on(centres: Centres, edge: Any) -> None:
    """Cleared while it was stopping, and queued again before its process was gone."""
    centre = centres()
    with dag_run(1) as dag:
        old = centre.dispatch(dag)["t0"]
        await runs(edge, dag, "t0", old)
        await edge.do(old, Withdraw("cancelled by ann", datetime.now(UTC)))
        set_task(dag.dag_id, "t0", state="scheduled")
        new = centre.dispatch(dag)["t0"]
        await edge.appears(new)
        await edge.finish(old)
        await centre.beats_until(lambda: centre.executor._background.dispatches.get(old) is None)
        centre.scheduler.beat()
        assert task_rows(dag.dag_id)["t0"].state == "queued"
        assert len(centre.executor.running) == 1


async def test_a_lost_job_is_retried_within_a_second_or_two(centres: Centres, edge: Any) -> None:
    """By the event, not by the reconciler or Airflow's time-outs."""
    centre = centres()
    with dag_run(1, retries=1) as dag:
        job = centre.dispatch(dag)["t0"]
        await runs(edge, dag, "t0", job)
        await edge.do(job, GiveUp("no contact with the worker for 900 s", datetime.now(UTC)))
        lost = time.monotonic()
        await centre.beats_until(lambda: task_rows(dag.dag_id)["t0"].state == "up_for_retry")
        assert time.monotonic() - lost < 2
        assert "no contact with the worker for 900 s" in reasons(dag.dag_id, "t0")
