"""Callbacks and connection tests: to their queue, run at most once, told to Airflow, and no trouble for tasks."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from edge_bridge.airflow import auxiliary_jobs
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.life.events import Finish, GiveUp
from edge_schemas.life.model import JobState
from edge_schemas.wire.jobs import AuxiliaryKind
from support.airflow.airflow_home import dag_run, set_task, task_rows
from support.nats.server import eventually

Centres = Callable[..., Any]
RELAY_EXECUTOR = "edge_bridge.executor.RelayExecutor"
NO_DATABASE = OperationalError("select", {}, Exception("no such table"))


@pytest.fixture(autouse=True)
def _queues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__CALLBACK_QUEUE", "calls")
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__CONNECTION_TEST_QUEUE", "tests")


class AuxiliaryJobs:
    """Callbacks and connection tests in Airflow's database."""

    def callback(self, dag: Any, executor: str | None = None) -> str:
        """One that waits to be handed out; returns its id."""
        from airflow.executors.workloads.callback import CallbackFetchMethod
        from airflow.models.callback import ExecutorCallback
        from airflow.models.dagrun import DagRun
        from airflow.sdk.definitions.callback import SyncCallback
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session(scoped=False) as session:
            run = session.scalar(select(DagRun.id).where(DagRun.dag_id == dag.dag_id))
            wanted = SyncCallback("a.b", executor=executor)
            made = ExecutorCallback(wanted, CallbackFetchMethod.IMPORT_PATH, dag_run_id=run, dag_id=dag.dag_id)
            made.state = "pending"
            session.add(made)
            session.flush()
            return str(made.id)

    def connection_test(self, **options: Any) -> str:
        """One that waits to be handed out; returns its id."""
        from airflow.models.connection_test import ConnectionTestRequest
        from airflow.utils.session import create_session

        with create_session(scoped=False) as session:
            made = ConnectionTestRequest(connection_id=f"c-{uuid.uuid4().hex[:8]}", conn_type="http", **options)
            session.add(made)
            session.flush()
            return str(made.id)

    def row(self, auxiliary: str) -> Any:
        return _row(auxiliary)

    def set(self, auxiliary: str, state: str) -> None:
        """As Airflow's API or its reaper would."""
        with _session_with(auxiliary) as row:
            row.state = state


@contextmanager
def _session_with(auxiliary: str) -> Iterator[Any]:
    from airflow.utils.session import create_session

    with create_session(scoped=False) as session:
        rows = [session.get(model, uuid.UUID(auxiliary)) for model in auxiliary_jobs._models().values()]
        (row,) = [row for row in rows if row is not None]
        yield row


def _row(auxiliary: str) -> Any:
    with _session_with(auxiliary) as row:
        text = getattr(row, "output", None) or getattr(row, "result_message", None)
        return str(getattr(row.state, "value", row.state)), text


@pytest.fixture
def asked() -> Iterator[AuxiliaryJobs]:
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    yield AuxiliaryJobs()
    with create_session(scoped=False) as session:
        for model in auxiliary_jobs._models().values():
            session.execute(delete(model))


def configured(monkeypatch: pytest.MonkeyPatch, **executors: str) -> Any:
    """As if `[core] executor` listed these, by alias; returns the name of the first, which is the default."""
    from airflow.executors.executor_loader import ExecutorLoader
    from airflow.executors.executor_utils import ExecutorName

    names = [ExecutorName(path, alias=alias) for alias, path in executors.items()]
    monkeypatch.setattr(ExecutorLoader, "get_executor_names", lambda **_: names)
    return names[0]


def hand_out(centre: Any) -> None:
    """The scheduler's own way from the database to the executor."""
    from airflow.utils.session import create_session

    with create_session() as session:
        centre.scheduler.runner._enqueue_executor_callbacks(session)
        centre.scheduler.runner._enqueue_connection_tests(session=session)
    centre.scheduler.beat()


async def test_a_callback_runs_at_its_queue_and_airflow_follows(
    centres: Centres, edge: Any, asked: AuxiliaryJobs
) -> None:
    centre = centres()
    with dag_run(1) as dag:
        good, bad = asked.callback(dag), asked.callback(dag)
        hand_out(centre)
        for job in (good, bad):
            record = await edge.appears(job)
            assert (record.queue, record.task, record.auxiliary.kind) == ("calls", None, AuxiliaryKind.CALLBACK)
            assert asked.row(job)[0] == "queued"
            await edge.start(job)
        await centre.beats_until(lambda: {asked.row(job)[0] for job in (good, bad)} == {"running"})
        await edge.finish(good)
        await edge.do(bad, Finish("w", 1, "ImportError: no module named a", datetime.now(UTC)))
        await centre.beats_until(lambda: asked.row(good)[0] == "success" and asked.row(bad)[0] == "failed")
        assert "no module named a" in asked.row(bad)[1]
        assert not centre.executor.running
        centre.compare()
        await centre.beats_until(lambda: not centre.executor._current)


async def test_a_lost_callback_has_failed_and_is_not_run_again(
    centres: Centres, edge: Any, asked: AuxiliaryJobs
) -> None:
    centre = centres()
    with dag_run(1) as dag:
        job = asked.callback(dag)
        hand_out(centre)
        record = await edge.appears(job)
        await edge.start(job)
        await edge.do(job, GiveUp("the worker is gone", datetime.now(UTC)))
        await centre.beats_until(lambda: asked.row(job)[0] == "failed")
        assert "the worker is gone" in asked.row(job)[1]
        assert await edge.message(record) is None


async def test_a_test_of_a_connection_ends_even_if_its_worker_cannot_say_so(
    centres: Centres, edge: Any, asked: AuxiliaryJobs
) -> None:
    """Airflow takes no event for it; the worker that succeeds has told Airflow itself."""
    centre = centres()
    told = asked.connection_test(queue="own")
    hand_out(centre)
    assert (await edge.appears(told)).queue == "own"
    await edge.start(told)
    asked.set(told, "success")
    await edge.finish(told)
    await centre.beats_until(lambda: not centre.executor.running)
    lost = asked.connection_test()
    hand_out(centre)
    assert (await edge.appears(lost)).queue == "tests"
    await edge.start(lost)
    await edge.do(lost, GiveUp("the worker is gone", datetime.now(UTC)))
    await centre.beats_until(lambda: asked.row(lost)[0] == "failed")
    assert "the worker is gone" in asked.row(lost)[1]
    assert asked.row(told) == ("success", None)


async def test_auxiliary_jobs_that_nobody_wants_are_refused_with_the_option_that_helps(
    centres: Centres, asked: AuxiliaryJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler continues, and whoever waits is told at once, not by a time-out."""
    monkeypatch.delenv("AIRFLOW__EDGE_RELAY__CALLBACK_QUEUE")
    monkeypatch.delenv("AIRFLOW__EDGE_RELAY__CONNECTION_TEST_QUEUE")
    centre = centres()
    with dag_run(1) as dag:
        callback, connection_test = asked.callback(dag), asked.connection_test()
        hand_out(centre)
        both = (callback, connection_test)
        await centre.beats_until(lambda: [asked.row(auxiliary)[0] for auxiliary in both] == ["failed", "failed"])
        assert "[edge_relay] callback_queue" in asked.row(callback)[1]
        assert "[edge_relay] connection_test_queue" in asked.row(connection_test)[1]
        executor = centre.executor
        await centre.beats_until(lambda: not executor.running)
        assert not executor.queued_callbacks
        assert not executor.queued_connection_tests


async def test_a_callback_handed_out_twice_is_one_job(centres: Centres, edge: Any, asked: AuxiliaryJobs) -> None:
    """The scheduler hands one out again if its commit failed; a restart in between makes no difference."""
    first = centres()
    with dag_run(1) as dag:
        job = asked.callback(dag)
        hand_out(first)
        await edge.appears(job)
        await edge.start(job)
        first.executor.terminate()
        asked.set(job, "pending")
        second = centres()
        hand_out(second)
        await eventually(lambda: second.executor.slots_occupied == 1, what="the record of the first is followed")
        assert (await edge.record(job)).state is JobState.RUNNING
        await edge.finish(job)
        await second.beats_until(lambda: asked.row(job)[0] == "success")


async def test_the_next_scheduler_takes_over_auxiliary_jobs(centres: Centres, edge: Any, asked: AuxiliaryJobs) -> None:
    """Airflow adopts tasks only: a callback whose scheduler is gone would be queued or running for ever."""
    first = centres()
    with dag_run(1) as dag:
        waits, runs, ended, other = (asked.callback(dag) for _ in range(4))
        asked.set(other, "running")  # of another executor
        hand_out(first)
        for job in (waits, runs, ended):
            await edge.appears(job)
        for job in (runs, ended):
            await edge.start(job)
        first.executor.terminate()
        first.scheduler.die()
        await edge.finish(ended)

        second = centres()
        await second.beats_until(lambda: asked.row(ended)[0] == "success")
        assert {key.id for key in second.executor.running} == {waits, runs}
        await edge.finish(runs)
        await second.beats_until(lambda: asked.row(runs)[0] == "success")
        await edge.drop_message(await edge.record(waits))
        second.compare()
        await edge.appears(waits)
        await edge.start(waits)
        await edge.finish(waits)
        await second.beats_until(lambda: asked.row(waits)[0] == "success")
        assert asked.row(other)[0] == "running"


async def test_auxiliary_jobs_that_never_reached_nats_are_published_by_the_next_scheduler(
    centres: Centres, edge: Any, asked: AuxiliaryJobs, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their scheduler marked them queued and died while NATS was away. What other executors have is left alone."""
    relay = configured(monkeypatch, edge=RELAY_EXECUTOR, local="some.Local")
    await server.stop(kill=True)
    first = centres(relay)
    with dag_run(1) as dag:
        ours = [asked.callback(dag), asked.callback(dag, executor="edge"), asked.connection_test()]
        theirs = [asked.callback(dag, executor=other) for other in ("local", "unknown")]
        theirs.append(asked.connection_test(executor="local"))
        hand_out(first)
        first.executor.terminate()
        first.scheduler.die()
        for auxiliary in theirs:
            asked.set(auxiliary, "queued")
        await server.start()
        second = centres(relay)
        await second.beats_until(lambda: {key.id for key in second.executor.running} == set(ours))
        second.compare()
        for auxiliary in ours:
            record = await edge.appears(auxiliary)
            assert (record.state, record.auxiliary.id) == (JobState.WAITING, auxiliary)
            assert "token" not in record.job.work.workload
        callback = ours[0]
        await edge.start(callback)
        await edge.finish(callback)
        await second.beats_until(lambda: asked.row(callback)[0] == "success")
        for auxiliary in theirs:
            assert await edge.record(auxiliary) is None
            assert asked.row(auxiliary)[0] == "queued"


async def test_a_running_callback_whose_record_is_lost_has_failed(
    centres: Centres, edge: Any, asked: AuxiliaryJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NATS came back without its data, and the scheduler is a new one: nobody will ever tell how it ended."""
    relay = configured(monkeypatch, edge=RELAY_EXECUTOR)
    with dag_run(1) as dag:
        job = asked.callback(dag)
        asked.set(job, "running")
        centre = centres(relay)
        await centre.beats_until(lambda: centre.executor.running)
        centre.compare()
        await centre.beats_until(lambda: asked.row(job)[0] == "failed")
        assert "no record" in asked.row(job)[1]


async def test_an_auxiliary_job_that_airflow_gave_up_is_withdrawn(
    centres: Centres, edge: Any, asked: AuxiliaryJobs
) -> None:
    """A test that ran into its time-out while it waited, a callback whose DAG run was deleted."""
    centre = centres()
    with dag_run(1) as dag:
        reaped, deleted = asked.connection_test(), asked.callback(dag)
        hand_out(centre)
        records = [await edge.appears(job) for job in (reaped, deleted)]
        dispatches = centre.executor._background.dispatches
        await eventually(lambda: all(dispatches.get(r.id).state is JobState.WAITING for r in records))
        asked.set(reaped, "failed")
        with _session_with(deleted) as row:
            from sqlalchemy import inspect

            inspect(row).session.delete(row)
        centre.compare()
        for record in records:
            assert (await edge.record(record.id)).state is JobState.ENDED

            async def gone(job: Any = record) -> bool:
                return await edge.message(job) is None

            await eventually(gone, what="no message")
        await centre.beats_until(lambda: not centre.executor.running)


async def test_auxiliary_jobs_in_trouble_do_not_hold_up_tasks(
    centres: Centres, edge: Any, asked: AuxiliaryJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: object = None) -> None:
        raise NO_DATABASE

    monkeypatch.setattr("edge_bridge.airflow.auxiliary_jobs.read_rows", fail)
    monkeypatch.setattr("edge_bridge.airflow.auxiliary_jobs.handed_out", fail)
    centre = centres()
    with dag_run(1, retries=1) as dag:
        auxiliary = asked.callback(dag)
        hand_out(centre)
        await edge.appears(auxiliary)
        await edge.start(auxiliary)
        await edge.finish(auxiliary)
        job = centre.dispatch(dag)["t0"]
        await edge.appears(job)
        await edge.start(job)
        set_task(dag.dag_id, "t0", state="running")
        await edge.finish(job, "no power")
        await centre.beats_until(lambda: task_rows(dag.dag_id)["t0"].state == "up_for_retry")
        assert asked.row(auxiliary)[0] == "running"


async def test_auxiliary_jobs_that_nobody_takes_are_warned_of(
    centres: Centres, edge: Any, asked: AuxiliaryJobs, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once a minute for each queue, not once for each auxiliary job; and whether its workers may just be busy."""
    centre = centres()
    with dag_run(1) as dag:
        runs, *waiting = (asked.callback(dag) for _ in range(3))
        hand_out(centre)
        for auxiliary in (runs, *waiting):
            await edge.appears(auxiliary)
        await edge.start(runs)
        background = centre.executor._background
        await eventually(lambda: all(background.dispatches.get(e).state is JobState.WAITING for e in waiting))
        await eventually(lambda: centre.executor.slots_occupied == 1)
        capsys.readouterr()
        for seconds in (50, 70, 80):
            background.queue_timeouts.warn(datetime.now(UTC) + timedelta(seconds=seconds))
        (line,) = [line for line in capsys.readouterr().out.splitlines() if "auxiliary_jobs_wait" in line]
        for fact in ("queue=calls", "auxiliary_jobs=2", "running=1"):
            assert fact in line
