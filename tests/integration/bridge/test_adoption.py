"""A scheduler dies, another takes over: what it adopts, returns, and finds out later."""

from collections.abc import Callable
from typing import Any

from edge_relay.nats_server import NatsServer
from edge_schemas.records import JobState
from support.airflow_home import dag_run, set_task, task_rows
from support.broker import eventually

Centres = Callable[[], Any]


async def test_each_state_is_adopted_as_it_should(centres: Centres, edge: Any) -> None:
    """Waiting and running go on, ended is reported, unknown is scheduled anew; then all runs to its end."""
    first = centres()
    with dag_run(4, retries=1) as dag:
        jobs = first.dispatch(dag)
        for job in jobs.values():
            record = await edge.appears(job)
        for task in ("t1", "t2"):
            await edge.start(jobs[task])
            set_task(dag.dag_id, task, state="running")
        first.executor.terminate()
        first.scheduler.die()
        await edge.finish(jobs["t2"], "no power")
        record = await edge.record(jobs["t3"])
        await edge.drop_message(record)
        await edge.broker.request(f"$KV.edge_jobs.{jobs['t3']}", headers={"KV-Operation": "DEL"})

        second = centres()
        assert second.scheduler.adopt() == 1
        assert {key.task_id for key in second.executor.running} == {"t0", "t1", "t2"}
        await second.beats_until(lambda: task_rows(dag.dag_id)["t2"].state == "up_for_retry")
        rows = task_rows(dag.dag_id)
        assert rows["t3"].state is None
        assert rows["t0"].external_executor_id == jobs["t0"]
        assert rows["t0"].queued_by_job_id == second.scheduler.job.id
        await eventually(lambda: second.executor.slots_occupied == 1)
        await edge.start(jobs["t0"])
        set_task(dag.dag_id, "t0", state="running")
        await edge.finish(jobs["t0"], "no power")
        await second.beats_until(lambda: task_rows(dag.dag_id)["t0"].state == "up_for_retry")


async def test_with_nats_away_all_are_adopted_and_decided_later(
    centres: Centres, edge: Any, server: NatsServer
) -> None:
    """A job that never reached NATS is published by the successor, under the same dispatch and without a token."""
    await server.stop(kill=True)
    first = centres()
    with dag_run(2) as dag:
        jobs = first.dispatch(dag)
        first.executor.terminate()
        first.scheduler.die()
        second = centres()
        assert second.scheduler.adopt() == 0
        assert len(second.executor.running) == 2
        await server.start()
        await eventually(lambda: second.executor._background._link[0].connected)
        second.compare()
        for task, job in jobs.items():
            record = await edge.appears(job)
            assert record.state is JobState.WAITING
            assert record.task.task_id == task
            assert "token" not in record.job.work.workload
            assert record.job.work.workload["ti"]["queue"] == "default"


async def test_a_running_task_whose_record_is_lost_is_failed(centres: Centres, edge: Any) -> None:
    """NATS came back without its data: the job can't go on, so the task is retried and the reason is told."""
    first = centres()
    with dag_run(1, retries=1) as dag:
        job = first.dispatch(dag)["t0"]
        await edge.appears(job)
        await edge.start(job)
        set_task(dag.dag_id, "t0", state="running")
        await eventually(lambda: first.executor.slots_occupied == 1)
        await edge.broker.request(f"$KV.edge_jobs.{job}", headers={"KV-Operation": "DEL"})
        await eventually(lambda: first.executor.slots_occupied == 0)
        first.compare()
        await first.beats_until(lambda: task_rows(dag.dag_id)["t0"].state == "up_for_retry")
