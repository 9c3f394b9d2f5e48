"""A scheduler dies, another takes over: what it adopts, returns, and finds out later."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from edge_broker.bucket import DELETE_MARK
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.life.events import GiveUp, ReportUserCode, Withdraw
from edge_schemas.life.model import JobState
from support.airflow.airflow_home import dag_run, set_task, task_rows
from support.nats.server import eventually

Centres = Callable[[], Any]


async def test_each_state_is_adopted_as_it_should(centres: Centres, edge: Any) -> None:
    """Waiting and running continue, ended is reported, unknown is scheduled again; then all runs to its end."""
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
        await edge.broker.request(f"$KV.edge_jobs.{jobs['t3']}", headers=DELETE_MARK)

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
        await eventually(lambda: second.executor._background._connection[0].connected)
        second.compare()
        for task, job in jobs.items():
            record = await edge.appears(job)
            assert record.state is JobState.WAITING
            assert record.task.task_id == task
            assert "token" not in record.job.work.workload
            assert record.job.work.workload["ti"]["queue"] == "default"


async def test_a_running_task_whose_record_is_lost_is_failed(centres: Centres, edge: Any) -> None:
    """NATS came back without its data: the job can't continue, so the task is retried and the reason is told."""
    first = centres()
    with dag_run(1, retries=1) as dag:
        job = first.dispatch(dag)["t0"]
        await edge.appears(job)
        await edge.start(job)
        set_task(dag.dag_id, "t0", state="running")
        await eventually(lambda: first.executor.slots_occupied == 1)
        await edge.broker.request(f"$KV.edge_jobs.{job}", headers=DELETE_MARK)
        await eventually(lambda: first.executor.slots_occupied == 0)
        first.compare()
        await first.beats_until(lambda: task_rows(dag.dag_id)["t0"].state == "up_for_retry")


STATES = {
    "waits": "queued",
    "runs": "running",
    "finishing": "running",
    "failed": "running",
    "lost": "running",
    "cancelled": "running",
    "cleared": "restarting",
    "succeeded": "success",
    "deferred": "deferred",
}
"""What Airflow has of each task when the next scheduler comes."""
AFTERWARDS = STATES | {
    "failed": "up_for_retry",
    "lost": "up_for_retry",
    "cancelled": "up_for_retry",
    "cleared": None,
}


@pytest.mark.parametrize("nats", ["up", "slow", "down"])
async def test_the_successor_of_a_killed_scheduler_counts_right_what_ended_meanwhile(
    *,
    nats: str,
    killed: Any,
    centres: Centres,
    edge: Any,
    server: NatsServer,
    slow_nats: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """None that runs is returned, reset or killed, and what ended is told soon, whatever state NATS is in."""
    with dag_run(len(STATES), retries=1) as dag:
        jobs = dict(zip(STATES, (killed(dag)).values(), strict=True))
        names = dict(zip(STATES, (f"t{n}" for n in range(len(STATES))), strict=True))
        await _live_on(edge, jobs)
        for name, state in STATES.items():
            set_task(dag.dag_id, names[name], state=state)
        before = task_rows(dag.dag_id)

        if nats == "down":
            await server.stop(kill=True)
        if nats == "slow":
            monkeypatch.setenv("AIRFLOW__EDGE_RELAY__NATS_URLS", slow_nats)
        second = centres()
        # In a thread: the slow link needs this one.
        assert await asyncio.to_thread(second.scheduler.adopt) == 0
        if nats == "down":
            await server.start()

        def states() -> dict[str, str | None]:
            rows = task_rows(dag.dag_id)
            return {name: rows[task].state for name, task in names.items()}

        await second.beats_until(lambda: states() == AFTERWARDS, "each task is as its job ended")
        after = task_rows(dag.dag_id)
        for name in ("waits", "runs", "finishing"):
            assert after[names[name]].external_executor_id == jobs[name]
            assert after[names[name]].id == before[names[name]].id
            assert (await edge.record(jobs[name])).state is not JobState.ENDED
        running = {key.task_id for key in second.executor.running}
        assert running == {names[name] for name in ("waits", "runs", "finishing")}
        await eventually(lambda: second.executor.slots_occupied == 2)
        await asyncio.to_thread(second.compare)
        assert states() == AFTERWARDS
        assert await edge.message(await edge.record(jobs["waits"]))


async def _live_on(edge: Any, jobs: dict[str, str]) -> None:
    """What becomes of the jobs while no scheduler looks."""
    now = datetime.now(UTC)
    for name, job in jobs.items():
        if name != "waits":
            await edge.start(job)
            await edge.do(job, ReportUserCode("w", "host", 1, now))
    await edge.accept(jobs["finishing"], "success")
    await edge.finish(jobs["failed"], "no power")
    await edge.do(jobs["lost"], GiveUp("no contact", now))
    for name in ("cancelled", "cleared"):
        await edge.do(jobs[name], Withdraw(f"somebody has {name} it", now))
        await edge.finish(jobs[name])
    await edge.accept(jobs["succeeded"], "success")
    await edge.finish(jobs["succeeded"])
    await edge.accept(jobs["deferred"], "deferred")
    await edge.finish(jobs["deferred"])


async def test_orphans_are_not_looked_up_one_by_one(killed: Any, centres: Centres) -> None:
    """The scheduler waits meanwhile, and holds their rows."""
    with dag_run(30) as dag:
        jobs = killed(dag)
        second = centres()
        adopt = second.executor.try_adopt_task_instances
        asked: list[str] = []

        def counted(tis: Any) -> Any:
            with _statements() as seen:
                adopted = adopt(tis)
            asked.extend(seen)
            return adopted

        second.executor.try_adopt_task_instances = counted
        assert second.scheduler.adopt() == 0
        assert len(asked) == 1
        assert len(second.executor.running) == len(jobs)


@contextmanager
def _statements() -> Iterator[list[str]]:
    """The SQL statements that this thread sends meanwhile; the executor's background looks things up as well."""
    from airflow import settings
    from sqlalchemy import event

    seen: list[str] = []
    here = threading.get_ident()

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        if threading.get_ident() == here:
            seen.append(statement)

    event.listen(settings.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(settings.engine, "before_cursor_execute", note)


async def test_a_scheduler_that_was_only_slow_does_not_finish_the_next_dispatch(centres: Centres, edge: Any) -> None:
    """It was taken for dead, and its executor still follows a dispatch when the successor has handed out the next."""
    first = centres()
    with dag_run(1, retries=1) as dag:
        old = first.dispatch(dag)["t0"]
        await edge.appears(old)
        await edge.start(old)
        await edge.do(old, ReportUserCode("w", "host", 1, datetime.now(UTC)))
        set_task(dag.dag_id, "t0", state="running")
        await eventually(lambda: first.executor.slots_occupied == 1)
        first.scheduler.die()
        second = centres()
        assert second.scheduler.adopt() == 0
        set_task(dag.dag_id, "t0", state="scheduled")
        new = second.dispatch(dag)["t0"]
        assert new != old
        await edge.appears(new)
        await edge.do(old, GiveUp("no contact", datetime.now(UTC)))
        for centre in (first, second):
            await centre.beats_until(lambda c=centre: c.executor._background.dispatches.get(old) is None)
            centre.scheduler.beat()
        assert task_rows(dag.dag_id)["t0"].state == "queued"
        assert not first.executor.running
        assert len(second.executor.running) == 1


async def test_two_schedulers_that_publish_one_dispatch_do_not_fail_it(centres: Centres, edge: Any) -> None:
    """The one that was only slow was faster, after an outage of NATS: the other follows its record."""
    first = centres()
    with dag_run(1) as dag:
        job = first.dispatch(dag)["t0"]
        record = await edge.appears(job)
        second = centres()
        background, portal = second.executor._background, second.executor._portal
        background.read_records = _nothing  # as with NATS away
        first.scheduler.die()
        assert second.scheduler.adopt() == 0
        late = record.job.model_copy(update={"published_at": datetime.now(UTC)})
        portal.post(background.publisher.publish_missing, late)
        assert await asyncio.to_thread(portal.call, lambda: background.flush(5), 6) == 0
        await eventually(lambda: background.dispatches.get(job).state is JobState.WAITING)
        second.scheduler.beat()
        assert background.dispatches.get(job).report is None
        assert task_rows(dag.dag_id)["t0"].state == "queued"


async def _nothing(_jobs: Any) -> dict[str, Any]:
    return {}
