"""What gets lost on the way is found, what Airflow takes back is withdrawn, and other executors never suffer."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from edge_broker.subjects import JOBS
from edge_schemas.life.events import Withdraw
from edge_schemas.life.model import JobRecord, JobState, Verdict
from support.airflow.airflow_home import Scheduler, dag_run, set_task, task_rows
from support.nats.server import eventually

Centres = Callable[[], Any]


async def test_a_lost_message_is_published_again(centres: Centres, edge: Any) -> None:
    """A waiting job without a message would wait for ever."""
    centre = centres()
    with dag_run(2) as dag:
        jobs = centre.dispatch(dag)
        records = [await edge.appears(job) for job in jobs.values()]
        kept = await edge.message(records[1])
        await edge.drop_message(records[0])
        await _seen_waiting(centre, *jobs.values())
        centre.compare()
        await eventually(lambda: edge.message(records[0]), what="a message again")
        assert (await edge.message(records[1]))["seq"] == kept["seq"]


async def test_a_message_lost_twice_is_published_twice(centres: Centres, edge: Any) -> None:
    """Within the server's window for repeats: the second time must not be taken for the first."""
    centre = centres()
    with dag_run(1) as dag:
        job = centre.dispatch(dag)["t0"]
        record = await edge.appears(job)
        for _ in range(2):
            await edge.drop_message(record)
            await _seen_waiting(centre, job)
            centre.compare()
            await edge.appears(job)


async def test_after_an_operators_purge_every_waiting_task_gets_its_message_again(
    centres: Centres, edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within one interval, however young the task; parked and running ones get none."""
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__RECONCILE_INTERVAL", "1")
    centre = centres()
    with dag_run(20, queue="plant 1") as one, dag_run(20, queue="plant 2") as two:
        jobs = [*centre.dispatch(one).values(), *centre.dispatch(two).values()]
        records = [await edge.appears(job) for job in jobs]
        await edge.start(jobs[0])
        await edge.park(jobs[1])
        set_task(one.dag_id, "t0", state="running")
        await edge.broker.api(f"STREAM.PURGE.{JOBS}")
        began = time.monotonic()
        for record in records[2:]:
            await edge.appears(record.id)
        assert time.monotonic() - began < 4
        assert await edge.message(records[0]) is None
        assert await edge.message(records[1]) is None


async def test_what_airflow_takes_back_is_withdrawn(centres: Centres, edge: Any) -> None:
    """A user marks a queued task failed: the record ends, the message goes, the slot is free, no event follows."""
    centre = centres()
    with dag_run(2) as dag:
        jobs = centre.dispatch(dag)
        records = {task: await edge.appears(job) for task, job in jobs.items()}
        await _seen_waiting(centre, *jobs.values())
        set_task(dag.dag_id, "t0", state=None, external_executor_id=None)
        centre.compare()
        ended = await edge.record(jobs["t0"])
        assert ended.state is JobState.ENDED
        assert ended.outcome.verdict is Verdict.CANCELLED
        await _gone(edge, records["t0"])
        assert await edge.message(records["t1"])
        await centre.beats_until(lambda: {key.task_id for key in centre.executor.running} == {"t1"})
        assert task_rows(dag.dag_id)["t0"].state is None


async def test_a_job_that_a_keeper_withdraws_leaves_no_message(centres: Centres, edge: Any) -> None:
    """It would stand in the queue of a site that is away, and be counted, until somebody comes to take it."""
    centre = centres()
    with dag_run(2) as dag:
        jobs = centre.dispatch(dag)
        records = {task: await edge.appears(job) for task, job in jobs.items()}
        await _seen_waiting(centre, *jobs.values())
        set_task(dag.dag_id, "t0", state="failed")
        await edge.do(jobs["t0"], Withdraw("the task instance is failed in Airflow", datetime.now(UTC)))
        await _gone(edge, records["t0"])
        assert await edge.message(records["t1"])


async def test_a_running_job_is_never_withdrawn_here(centres: Centres, edge: Any) -> None:
    """What runs is the keeper's to watch, even if the picture of it is behind."""
    centre = centres()
    with dag_run(1) as dag:
        job = centre.dispatch(dag)["t0"]
        await edge.appears(job)
        await _seen_waiting(centre, job)
        await edge.start(job)
        await eventually(lambda: centre.executor.slots_occupied == 1)
        centre.executor._background.dispatches.get(job).state = JobState.WAITING
        set_task(dag.dag_id, "t0", state="failed")
        centre.compare()
        assert (await edge.record(job)).state is JobState.RUNNING


async def test_a_lost_event_is_repeated(centres: Centres, edge: Any) -> None:
    """Airflow drops events of locked rows without a word; the task would run for ever."""
    centre = centres()
    with dag_run(1, retries=1) as dag:
        job = centre.dispatch(dag)["t0"]
        await edge.appears(job)
        await edge.start(job)
        set_task(dag.dag_id, "t0", state="running")
        await edge.finish(job, "no power")

        def lost() -> bool:
            centre.executor.heartbeat()
            return bool(centre.executor.get_event_buffer())

        await eventually(lost)
        centre.compare()
        await centre.beats_until(lambda: task_rows(dag.dag_id)["t0"].state == "up_for_retry")
        centre.compare()
        await centre.beats_until(lambda: not centre.executor._current)
        assert centre.executor._background.dispatches.get(job) is None


@pytest.mark.slow
async def test_a_queue_that_nobody_serves_slows_no_other_executor(
    centres: Centres, edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 waiting tasks take no slot: the local tasks behind them are queued in the next loop, with 32 slots in all."""
    from airflow.executors.base_executor import BaseExecutor
    from airflow.executors.executor_utils import ExecutorName

    class Local(BaseExecutor):
        """Runs each task in no time, as far as the scheduler can see."""

        def _process_workloads(self, workloads: Any) -> None:
            for workload in workloads:
                del self.queued_tasks[workload.key]
                set_task(workload.ti.dag_id, workload.ti.task_id, state="success")
                self.success(workload.key)

    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor,edge:edge_bridge.executor.RelayExecutor")
    relay, local = centres().executor, Local()
    relay.name = ExecutorName("edge_bridge.executor.RelayExecutor", alias="edge")
    local.name = ExecutorName("airflow.executors.local_executor.LocalExecutor", alias="LocalExecutor")
    scheduler = Scheduler(local, relay)
    scheduler.runner._parallelism = 32
    _route(scheduler, {None: local, "edge": relay})
    with dag_run(500, queue="nobody", executor="edge") as waiting:
        while scheduler.queue():
            scheduler.beat()
        assert {row.state for row in task_rows(waiting.dag_id).values()} == {"queued"}
        assert len(relay.running) == 500
        assert relay.slots_occupied == 0
        with dag_run(64) as quick:
            loops = 0
            while {row.state for row in task_rows(quick.dag_id).values()} != {"success"}:
                scheduler.queue()
                scheduler.beat()
                loops += 1
                assert loops <= 10, "local tasks wait behind those of the edge"
        started = time.monotonic()
        relay.heartbeat()
        assert time.monotonic() - started < 0.5
        jobs = [row.external_executor_id for row in task_rows(waiting.dag_id).values()]
        last = await edge.appears(jobs[-1])
        await edge.start(last.id)
        await eventually(lambda: relay.slots_occupied == 1)


def _route(scheduler: Scheduler, executors: dict[str | None, Any]) -> None:
    """Spares the test the loader, which makes executors of its own."""

    def load(workload: Any, session: Any, **options: Any) -> Any:
        return executors[workload.get_executor_name() if hasattr(workload, "get_executor_name") else workload.executor]

    vars(scheduler.runner)["_try_to_load_executor"] = load


async def _gone(edge: Any, record: JobRecord) -> None:
    async def gone() -> bool:
        return await edge.message(record) is None

    await eventually(gone, what="no message")


async def _seen_waiting(centre: Any, *jobs: str) -> None:
    """The executor has seen the records, and is done with publishing."""
    background = centre.executor._background

    def seen() -> bool:
        entries = [background.dispatches.get(job) for job in jobs]
        return len(background.publisher) == 0 and all(e is not None and e.state is JobState.WAITING for e in entries)

    await eventually(seen, what="the executor has seen its records")
