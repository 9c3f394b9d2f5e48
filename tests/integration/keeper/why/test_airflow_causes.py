"""What keeps a task from an executor, produced in a real Airflow database; Airflow's scheduler must agree each time."""

import os
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from sqlalchemy import update

from edge_bridge.keeper.dispatch import Dispatches
from edge_bridge.keeper.why.read_task import is_ours
from edge_bridge.keeper.why.task_answers import TaskAnswers
from edge_broker.bundles.entries import CurrentVersion, KnownVersion
from edge_broker.bundles.published import PublishedBundles
from edge_broker.permissions import KEEPER
from edge_schemas.admin.why import Cause, CauseCode
from edge_schemas.why.task_query import TaskInstanceFindings, TaskQuery
from edge_schemas.wire.errors import EdgeError, ErrorCode
from support.airflow import airflow_home, postgres
from support.airflow.airflow_home import BUNDLE, Scheduler, dag_run, set_task, task_rows
from support.airflow.executors import forget_executors
from support.airflow.real_airflow import using_database
from support.nats.server import connected, running_server

pytestmark = [pytest.mark.timeout(180)]
C = CauseCode
WITHIN_S = 2.0
RUN = "r"


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=["sqlite", pytest.param("postgresql", marks=postgres.needed())],
)
async def database(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Airflow's tables, in each kind of database."""
    settings = {
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor,edge:edge_bridge.executor.RelayExecutor",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a-secret-for-tests-that-is-long-enough-for-hs512-" * 2,
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    forget_executors()
    is_ours.cache_clear()
    try:
        if request.param == "sqlite":
            airflow_home.create_tables()
            yield
        else:
            async with postgres.postgres() as url:
                with using_database(url):
                    airflow_home.create_tables()
                    yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        forget_executors()
        is_ours.cache_clear()


@pytest.fixture
def scheduler(database: None) -> Iterator[Scheduler]:
    """Airflow's scheduler, with an executor that only counts."""
    from airflow.executors.executor_utils import ExecutorName
    from airflow.jobs.job import Job
    from airflow.utils.session import create_session

    from edge_bridge.executor.relay_executor import RelayExecutor

    with create_session(scoped=False) as session:
        session.execute(update(Job).values(state="failed"))
    executor = RelayExecutor()
    executor.name = ExecutorName("edge_bridge.executor.RelayExecutor", "edge")
    found = Scheduler(executor)
    yield found
    found.die()


@pytest.fixture
def dag(scheduler: Scheduler) -> Iterator[Any]:
    with dag_run(3, queue="plant", executor="edge", max_active_tis_per_dag=2) as found:
        yield found


NO_VERSIONS = cast("PublishedBundles", None)
"""For runs that are pinned to no version: nothing is looked up."""


async def ask(
    dag_id: str, task: str, run: str = RUN, published: PublishedBundles = NO_VERSIONS
) -> TaskInstanceFindings:
    """The answer, within two seconds."""
    began = time.monotonic()
    found = await TaskAnswers(Dispatches(), published).findings(TaskQuery(dag=dag_id, run=run, task=task))
    assert time.monotonic() - began < WITHIN_S
    return found


async def held(scheduler: Scheduler, dag: Any, task: str = "t0") -> Cause:
    """The first cause of a task that Airflow's scheduler does not queue either."""
    found = await ask(dag.dag_id, task)
    before = task_rows(dag.dag_id)[task].state
    scheduler.queue()
    assert task_rows(dag.dag_id)[task].state == before, "the scheduler queues it"
    return found.causes[0]


def change(model: Any, condition: Any, **values: Any) -> None:
    from airflow.utils.session import create_session

    with create_session(scoped=False) as session:
        session.execute(update(model).where(condition).values(**values))


async def test_nothing_holds_it_back_until_it_is_a_job(scheduler: Scheduler, dag: Any) -> None:
    found = await ask(dag.dag_id, "t0")
    assert [one.code for one in found.causes] == [C.NOT_QUEUED_SCHEDULER]
    assert "Nothing holds it back" in found.causes[0].text
    assert (found.queue, found.state, found.dispatch) == ("plant", "scheduled", None)
    assert scheduler.queue()
    found = await ask(dag.dag_id, "t0")
    assert (found.state, found.dispatch) == ("queued", task_rows(dag.dag_id)["t0"].external_executor_id)
    assert found.causes == ()
    set_task(dag.dag_id, "t0", external_executor_id=None)
    assert "without the id of a job" in (await ask(dag.dag_id, "t0")).causes[0].text


async def test_a_version_that_is_not_published_while_others_are(scheduler: Scheduler, dag: Any, tmp_path: Path) -> None:
    """The executor waits for it then, and has no record yet. A bundle that is not published at all delays no task."""
    from airflow.models.dagrun import DagRun

    assert scheduler.queue()
    change(DagRun, DagRun.dag_id == dag.dag_id, bundle_version="c0ffee")
    async with running_server(tmp_path) as server, connected(server, KEEPER) as broker:
        published = PublishedBundles(broker)
        assert (await ask(dag.dag_id, "t0", published=published)).causes == ()
        await published.put(CurrentVersion(name=BUNDLE, digest="0" * 64, at=datetime.now(UTC), by="a test"))
        found = await ask(dag.dag_id, "t0", published=published)
        assert found.dispatch is not None
        assert [one.code for one in found.causes] == [C.BUNDLE_NOT_PUBLISHED]
        assert found.causes[0].facts == {"bundle": BUNDLE, "version": "c0ffee"}
        await published.put(KnownVersion(name=BUNDLE, version="c0ffee", digest="0" * 64))
        assert (await ask(dag.dag_id, "t0", published=published)).causes == ()
    assert (await ask(dag.dag_id, "t0", published=published)).causes == (), "without NATS, the answer says less"


async def test_pools(scheduler: Scheduler, dag: Any) -> None:
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session

    with create_session(scoped=False) as session:
        Pool.create_or_update_pool("small", slots=2, description="", include_deferred=True, session=session)
    for task in ("t1", "t2"):
        set_task(dag.dag_id, task, state="running", pool="small")
    set_task(dag.dag_id, "t0", pool="small")
    one = await held(scheduler, dag)
    assert (one.code, one.facts["used"], one.facts["of"]) == (C.NOT_QUEUED_POOL, 2, 2)
    set_task(dag.dag_id, "t1", state="deferred")
    assert (await held(scheduler, dag)).code is C.NOT_QUEUED_POOL
    set_task(dag.dag_id, "t2", state="success")
    set_task(dag.dag_id, "t0", pool_slots=3)
    one = await held(scheduler, dag)
    assert "needs 3 slots of pool small, which has 2 in all" in one.text
    set_task(dag.dag_id, "t0", pool="gone")
    one = await held(scheduler, dag)
    assert "pool gone does not exist" in one.text
    set_task(dag.dag_id, "t0", pool="small", pool_slots=1)
    assert scheduler.queue() == 1


async def test_the_limits_of_dag_run_and_task(scheduler: Scheduler, dag: Any) -> None:
    from airflow.models.dag import DagModel

    of_dag = DagModel.dag_id == dag.dag_id
    for task in ("t1", "t2"):
        set_task(dag.dag_id, task, state="running")
    change(DagModel, of_dag, max_active_tasks=2)
    one = await held(scheduler, dag)
    assert (one.code, one.facts["limit"], one.facts["used"]) == (C.NOT_QUEUED_LIMIT, "max_active_tasks of the run", 2)
    change(DagModel, of_dag, max_active_tasks=16)
    for task in ("t1", "t2"):
        set_task(dag.dag_id, task, state="success")
    for index in (7, 8):
        copy_task(dag.dag_id, "t0", map_index=index, state="deferred")
    one = await held_row(scheduler, dag)
    assert (one.facts["limit"], one.facts["used"]) == ("max_active_tis_per_dag of the task", 2)
    change(DagModel, of_dag, is_paused=True)
    one = await held_row(scheduler, dag)
    assert "The DAG is paused" in one.text


async def held_row(scheduler: Scheduler, dag: Any) -> Cause:
    """As `held`, for a task with mapped copies."""
    found = await ask(dag.dag_id, "t0")
    assert scheduler.queue() == 0
    return found.causes[0]


def copy_task(dag_id: str, task: str, **values: Any) -> None:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import insert, select

    table: Any = TaskInstance.__table__
    with create_session(scoped=False) as session:
        row = session.execute(
            select(table).where(table.c.dag_id == dag_id, table.c.task_id == task, table.c.map_index == -1)
        ).mappings()
        session.execute(insert(table).values(**{**dict(row.one()), "id": uuid.uuid4(), **values}))


async def test_parallelism(scheduler: Scheduler, dag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "2")
    for task in ("t1", "t2"):
        set_task(dag.dag_id, task, state="running", queued_by_job_id=scheduler.job.id)
    found = await ask(dag.dag_id, "t0")
    assert found.causes[0].code is C.NOT_QUEUED_PARALLELISM
    assert found.causes[0].text.startswith("[core] parallelism is reached: 2 of 2")
    set_task(dag.dag_id, "t1", state="queued")
    assert (await ask(dag.dag_id, "t0")).causes[0].code is not C.NOT_QUEUED_PARALLELISM, "a waiting job uses no slot"
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__PARALLELISM", "2")
    assert (await ask(dag.dag_id, "t0")).causes[0].text.startswith("[edge_relay] parallelism is reached: 2 of 2")


async def test_priority(scheduler: Scheduler, dag: Any) -> None:
    for task in ("t1", "t2"):
        set_task(dag.dag_id, task, priority_weight=9)
    one = (await ask(dag.dag_id, "t0")).causes[0]
    assert (one.code, one.facts["ahead"]) == (C.NOT_QUEUED_LIMIT, 2)
    assert "2 scheduled tasks of pool wide with a higher weight" in one.text


async def test_dependencies_and_pauses(scheduler: Scheduler) -> None:
    with dag_run(3, executor="edge", in_a_row=True, depends_on_past=True) as dag:
        for task, state in (("t0", "running"), ("t1", None), ("t2", None)):
            set_task(dag.dag_id, task, state=state)
        one = await held(scheduler, dag, "t1")
        assert (one.code, one.text) == (C.NOT_QUEUED_DEPENDENCIES, "It waits for t0 (running)")
        assert "t1 (not scheduled)" in (await held(scheduler, dag, "t2")).text
        set_task(dag.dag_id, "t0", state="success")
        one = (await ask(dag.dag_id, "t1")).causes[0]
        assert (one.code, "Nothing holds it back" in one.text) == (C.NOT_QUEUED_SCHEDULER, True)
        set_task(dag.dag_id, "t0", state="failed")
        one = await held(scheduler, dag, "t1")
        assert one.code is C.NOT_QUEUED_DEPENDENCIES
        assert "rule" in one.text.lower()
        for state in ("up_for_retry", "up_for_reschedule", "deferred", "awaiting_input"):
            set_task(dag.dag_id, "t1", state=state)
            assert (await held(scheduler, dag, "t1")).code is C.NOT_QUEUED_DEPENDENCIES


async def test_runs_that_are_queued_or_over(scheduler: Scheduler, dag: Any) -> None:
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun

    set_task(dag.dag_id, "t0", state=None)
    of_run = (DagRun.dag_id == dag.dag_id) & (DagRun.run_id == RUN)
    change(DagRun, of_run, _state="queued")
    one = await held(scheduler, dag)
    assert (one.code, "next loop" in one.text) == (C.NOT_QUEUED_SCHEDULER, True)
    change(DagModel, DagModel.dag_id == dag.dag_id, max_active_runs=0)
    one = await held(scheduler, dag)
    assert (one.code, one.facts["limit"]) == (C.NOT_QUEUED_LIMIT, "max_active_runs")
    change(DagRun, of_run, _state="failed")
    assert "Its run is failed" in (await held(scheduler, dag)).text


async def test_no_scheduler(scheduler: Scheduler, dag: Any) -> None:
    from airflow.jobs.job import Job

    old = datetime.now(UTC) - timedelta(hours=3)
    change(Job, Job.id == scheduler.job.id, latest_heartbeat=old)
    one = (await ask(dag.dag_id, "t0")).causes[0]
    assert (one.code, one.since) == (C.NOT_QUEUED_SCHEDULER, old)
    assert "No scheduler of Airflow is alive: the last heartbeat was at" in one.text
    scheduler.die()
    assert "none is registered as running" in (await ask(dag.dag_id, "t0")).causes[0].text


async def test_tasks_of_others_and_ended_tasks(scheduler: Scheduler, dag: Any) -> None:
    set_task(dag.dag_id, "t0", executor=None)
    one = (await ask(dag.dag_id, "t0")).causes[0]
    assert (one.code, "LocalExecutor" in one.text) == (C.NOT_AT_THE_EDGE, True)
    set_task(dag.dag_id, "t1", state="failed", end_date=datetime.now(UTC))
    one = (await ask(dag.dag_id, "t1")).causes[0]
    assert (one.code, one.facts["state"]) == (C.ENDED, "failed")
    with pytest.raises(EdgeError) as refused:
        await ask(dag.dag_id, "t9")
    assert refused.value.code is ErrorCode.NOT_FOUND
