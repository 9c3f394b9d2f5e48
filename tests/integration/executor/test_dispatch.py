"""From a scheduled task to a job in NATS and back to Airflow, with NATS there, not yet there, and gone in between."""

import asyncio
import base64
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import airflow
import pytest

from edge_broker.subjects import JOBS, consumer_name
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.life.events import GiveUp, Redrive
from edge_schemas.life.model import JobState
from edge_schemas.wire.jobs import Job, JobKind, TaskWork
from support.airflow.airflow_home import dag_run, set_task, task_rows
from support.nats.server import eventually

Centres = Callable[[], Any]


async def test_a_task_becomes_a_job_without_a_token(centres: Centres, edge: Any) -> None:
    """Record and message hold the whole job; no token and no secret are in it."""
    centre = centres()
    with dag_run(1, queue="plant 1") as dag:
        job_id = centre.dispatch(dag)["t0"]
        record = await edge.appears(job_id)
        assert record.state is JobState.WAITING
        assert (record.queue, record.task.dag_id, record.task.task_id) == ("plant 1", dag.dag_id, "t0")
        message = await edge.message(record)
        published = Job.model_validate_json(base64.b64decode(message["data"]))
        assert published == record.job
        assert set(published.workload) == {"ti", "dag_rel_path", "bundle_info", "log_path", "sentry_integration"}
        assert isinstance(published.work, TaskWork)
        assert (published.work.core_executor, published.work.airflow_version) == ("LocalExecutor", airflow.__version__)
        assert b"token" not in base64.b64decode(message["data"])
        consumer = await edge.broker.api(f"CONSUMER.INFO.{JOBS}.{consumer_name(None, 'plant 1', JobKind.TASK)}")
        assert consumer["num_pending"] == 1
        assert centre.executor.slots_occupied == 0


async def test_a_finished_job_ends_its_task(centres: Centres, edge: Any) -> None:
    """Success leaves no trace; an end without an accepted final state fails the task, with the reason."""
    centre = centres()
    with dag_run(2, retries=1) as dag:
        jobs = centre.dispatch(dag)
        for task, job in jobs.items():
            await edge.appears(job)
            await edge.start(job)
            set_task(dag.dag_id, task, state="running")
        await eventually(lambda: centre.executor.slots_occupied == 2)
        await edge.accept(jobs["t0"], "success")
        set_task(dag.dag_id, "t0", state="success")
        await edge.finish(jobs["t0"])
        await edge.finish(jobs["t1"], "killed by the kernel")
        await centre.beats_until(lambda: task_rows(dag.dag_id)["t1"].state == "up_for_retry")
        assert task_rows(dag.dag_id)["t0"].state == "success"
        assert centre.executor.slots_occupied == 0
        await centre.beats_until(lambda: not centre.executor.running)


async def test_nats_may_come_late(centres: Centres, edge: Any, server: NatsServer) -> None:
    """With NATS away from the start, tasks stay queued, the scheduler does not wait, and nothing is lost."""
    await server.stop(kill=True)
    centre = centres()
    with dag_run(40) as dag:
        started = time.monotonic()
        jobs = centre.dispatch(dag)
        assert time.monotonic() - started < 5
        assert {row.state for row in task_rows(dag.dag_id).values()} == {"queued"}
        await server.start()
        for job in jobs.values():
            await edge.appears(job)


async def test_nats_may_go_and_come_back(centres: Centres, edge: Any, server: NatsServer) -> None:
    """Killed between two dispatches: the second waits in memory; a job that ends afterwards is seen."""
    centre = centres()
    with dag_run(1) as before:
        job = centre.dispatch(before)["t0"]
        await edge.appears(job)
        await edge.start(job)
        set_task(before.dag_id, "t0", state="running")
        await server.stop(kill=True)
        with dag_run(30) as meanwhile:
            late = centre.dispatch(meanwhile)
            await server.start()
            for other in late.values():
                await edge.appears(other)
            await edge.finish(job, "gone")
            await centre.beats_until(lambda: task_rows(before.dag_id)["t0"].state == "failed")


async def test_the_end_of_an_older_dispatch_does_not_touch_the_newer(centres: Centres, edge: Any) -> None:
    """A sensor that is rescheduled has a new dispatch under the same key and try; the old one ends late."""
    centre = centres()
    with dag_run(1) as dag:
        old = centre.dispatch(dag)["t0"]
        await edge.appears(old)
        await edge.start(old)
        await edge.accept(old, "up_for_reschedule")
        set_task(dag.dag_id, "t0", state="scheduled")
        new = centre.dispatch(dag)["t0"]
        assert new != old
        await edge.appears(new)
        await edge.finish(old)
        await _settled(centre, old)
        assert task_rows(dag.dag_id)["t0"].state == "queued"
        assert len(centre.executor.running) == 1


async def test_a_late_end_does_not_fail_a_task_that_is_scheduled_again(centres: Centres, edge: Any) -> None:
    """Scheduled but not yet queued, for want of a pool slot: Airflow would take the event for a failure."""
    centre = centres()
    with dag_run(1) as dag:
        job = centre.dispatch(dag)["t0"]
        await edge.appears(job)
        await edge.start(job)
        await edge.accept(job, "up_for_reschedule")
        set_task(dag.dag_id, "t0", state="scheduled")
        await edge.finish(job)
        await _settled(centre, job)
        assert task_rows(dag.dag_id)["t0"].state == "scheduled"
        assert not centre.executor.running


async def _settled(centre: Any, job: str) -> None:
    """The executor has dealt with the end of a job, and the scheduler with what it was told."""
    dispatches = centre.executor._background.dispatches
    await centre.beats_until(lambda: dispatches.get(job) is None, "the dispatch is settled")
    centre.scheduler.beat()


async def test_a_job_given_up_before_user_code_is_published_again(centres: Centres, edge: Any) -> None:
    """No try is spent, the dispatch stays the same."""
    centre = centres()
    with dag_run(1) as dag:
        job = centre.dispatch(dag)["t0"]
        await edge.appears(job)
        record = await edge.start(job)
        await eventually(lambda: centre.executor.slots_occupied == 1)
        assert await edge.message(record) is None
        await edge.do(job, GiveUp("no contact", datetime.now(UTC)))
        await eventually(lambda: edge.message(record), what="a message again")
        assert centre.executor.slots_occupied == 0


async def test_a_parked_job_is_explained_and_redriven(centres: Centres, edge: Any) -> None:
    """Parked, the task stays queued and its audit log says why; redriven, its message comes back at once."""
    centre = centres()
    with dag_run(1) as dag:
        job = centre.dispatch(dag)["t0"]
        record = await edge.appears(job)
        await edge.park(job)
        await edge.drop_message(record)
        notes = centre.executor._task_event_logs
        await centre.beats_until(lambda: [n for n in notes if "no such runtime 4" in (n.extra or "")])
        centre.compare()
        assert await edge.message(record) is None
        await edge.do(job, Redrive("fixed", datetime.now(UTC)))
        await eventually(lambda: edge.message(record), what="a message again")
        assert task_rows(dag.dag_id)["t0"].state == "queued"


async def test_a_task_without_its_own_dispatch_id_is_refused(centres: Centres, edge: Any) -> None:
    """Named by class name, a task has no dispatch id, or an old one: it fails and the reason says what to write."""
    centre = centres()
    with dag_run(2) as dag:
        while centre.scheduler.queue():
            pass
        for key, workload in centre.executor.queued_tasks.items():
            if key.task_id == "t0":
                workload.ti.external_executor_id = None
                set_task(dag.dag_id, "t0", external_executor_id=None)
        centre.scheduler.beat()
        await centre.beats_until(lambda: task_rows(dag.dag_id)["t0"].state == "failed")
        job = task_rows(dag.dag_id)["t1"].external_executor_id
        await edge.appears(job)
        await edge.start(job)
        seen = centre.executor._background.publisher
        with dag_run(1) as other:
            while centre.scheduler.queue():
                pass
            for workload in centre.executor.queued_tasks.values():
                workload.ti.external_executor_id = job
            set_task(other.dag_id, "t0", external_executor_id=job)
            centre.scheduler.beat()
            await centre.beats_until(lambda: task_rows(other.dag_id)["t0"].state == "failed")
        assert len(seen) == 0


async def test_ending_with_nats_away_takes_seconds(centres: Centres, server: NatsServer) -> None:
    """The scheduler's end is not held up; what was not published is said."""
    centre = centres()
    await server.stop(kill=True)
    with dag_run(3) as dag:
        centre.dispatch(dag)
        started = time.monotonic()
        centre.executor.end()
        assert time.monotonic() - started < 6


async def test_ending_publishes_what_is_left(centres: Centres, edge: Any) -> None:
    """A graceful stop right after a dispatch loses nothing."""
    centre = centres()
    with dag_run(30) as dag:
        await eventually(
            lambda: centre.executor._background._connection and centre.executor._background._connection[0].connected
        )
        jobs = centre.dispatch(dag)
        await asyncio.to_thread(centre.executor.end)
        for job in jobs.values():
            record = await edge.record(job)
            assert record is not None
            assert await edge.message(record)


def test_an_instance_that_is_not_started_only_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The api-server makes one to ask for logs; it must not look for a log server on the worker."""
    from edge_bridge.executor.relay_executor import RelayExecutor

    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__NATS_URLS", "nats://192.0.2.1:1")
    executor: Any = RelayExecutor()
    messages, logs = executor.get_task_log(None, 1)
    assert len(messages) == 1
    assert logs == []
    assert executor.slots_occupied == 0
    assert executor.parallelism == 10_000
    with pytest.raises(NotImplementedError):
        executor.revoke_task(ti=None)
    executor.end()
