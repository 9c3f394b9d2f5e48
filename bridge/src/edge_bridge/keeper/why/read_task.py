"""Reads a task instance and what holds it back, as Airflow's scheduler does, in short queries by index. Read only.

`SchedulerJobRunner._executable_task_instances_to_queued` is the model: the tests compare with it.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from edge_bridge.airflow.tasks import named
from edge_bridge.keeper.dispatch import airflow_session
from edge_bridge.keeper.why.task_facts import PoolFacts, RunFacts, RunVersion, TaskFacts, Usage
from edge_bridge.settings import SECTION
from edge_schemas.why.task_query import TaskQuery

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

OUR_EXECUTORS = "edge_bridge."
"""Where the classes of our executors are; a subclass has one of them among its bases."""
MAX_UNDONE = 50
"""More upstream tasks are not read; the sentence names a few."""
_EXECUTES = ("queued", "running")
_IN_FLIGHT = (*_EXECUTES, "deferred", "awaiting_input")
_DONE = ("success", "failed", "skipped", "upstream_failed", "removed")


def read_task(query: TaskQuery) -> TaskFacts | None:
    """The facts about a task instance; None if Airflow has none of this name.

    Raises:
        DatabaseUnavailable: Try again later.
    """
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    ti = TaskInstance
    with airflow_session() as session:
        columns = (
            *(ti.queue, ti.state, ti.try_number, ti.external_executor_id, ti.executor, ti.pool, ti.pool_slots),
            *(ti.priority_weight, ti.queued_dttm, ti.scheduled_dttm, ti.end_date),
            *(DagRun.state.label("run_state"), DagRun.backfill_id, DagRun.bundle_version, DagModel.bundle_name),
            *(DagModel.is_paused, DagModel.max_active_tasks, DagModel.max_active_runs),
            DagModel.has_task_concurrency_limits,
        )
        statement = (
            select(*columns)
            .join(DagRun, (DagRun.dag_id == ti.dag_id) & (DagRun.run_id == ti.run_id))
            .join(DagModel, DagModel.dag_id == ti.dag_id, isouter=True)
            .where(named([(query.dag, query.task, query.run, query.map_index)]))
        )
        row = session.execute(statement).one_or_none()
        return None if row is None else _facts(session, query, row)


def _facts(session: "Session", query: TaskQuery, row: Any) -> TaskFacts:
    state = _plain(row.state)
    ours = is_ours(row.executor)
    waits = state is None or state == "scheduled"
    seen, alive = _scheduler(session) if waits else (None, True)
    pool: PoolFacts | None = None
    limits: tuple[Usage, ...] = ()
    undone: tuple[str, ...] = ()
    if ours and state == "scheduled":
        pool = _pool(session, row)
        limits = tuple(_limits(session, query, row))
    elif ours and state is None:
        undone = tuple(_undone(session, query))
    return TaskFacts(
        queue=row.queue,
        state=state,
        try_number=row.try_number,
        dispatch=row.external_executor_id if ours and state in _EXECUTES else None,
        executor=row.executor or _default_executor(),
        is_ours=ours,
        run=_run(session, query, row),
        since=_since(state, row),
        pool_name=row.pool,
        pool=pool,
        limits=limits,
        undone=undone,
        scheduler_seen_at=seen,
        scheduler_alive=alive,
        runs=RunVersion(row.bundle_name, row.bundle_version) if row.bundle_name and row.bundle_version else None,
    )


def _since(state: str | None, row: Any) -> datetime | None:
    if state == "queued":
        at = row.queued_dttm
    elif state == "scheduled":
        at = row.scheduled_dttm
    else:
        at = row.end_date if state in _DONE else None
    return at if isinstance(at, datetime) else None


def _run(session: "Session", query: TaskQuery, row: Any) -> RunFacts:
    state, active = _plain(row.run_state) or "", None
    if state == "queued" and row.max_active_runs is not None:
        active = Usage("max_active_runs", *_active_runs(session, query.dag, row))
    return RunFacts(state, bool(row.is_paused), active)


def _active_runs(session: "Session", dag: str, row: Any) -> tuple[int, int]:
    """Running runs of the DAG, those of the run's backfill or those of none, and their limit."""
    from airflow.models.backfill import Backfill
    from airflow.models.dagrun import DagRun
    from sqlalchemy import func, select

    limit = row.max_active_runs
    if row.backfill_id is not None:
        limit = session.scalar(select(Backfill.max_active_runs).where(Backfill.id == row.backfill_id)) or limit
    running = select(func.count()).where(
        DagRun.dag_id == dag, DagRun.state == "running", DagRun.backfill_id.is_not_distinct_from(row.backfill_id)
    )
    return session.scalar(running) or 0, limit


def _scheduler(session: "Session") -> tuple[datetime | None, bool]:
    """The last heartbeat of a scheduler that has not ended, and whether it is recent."""
    from airflow.configuration import conf
    from airflow.jobs.job import Job
    from sqlalchemy import func, select

    newest = select(func.max(Job.latest_heartbeat)).where(Job.job_type == "SchedulerJob", Job.state == "running")
    seen = session.scalar(newest)
    patience = timedelta(seconds=conf.getint("scheduler", "scheduler_health_check_threshold"))
    return seen, seen is not None and datetime.now(UTC) - seen <= patience


def _pool(session: "Session", row: Any) -> PoolFacts | None:
    from airflow.models.pool import Pool
    from airflow.models.taskinstance import TaskInstance as Ti
    from sqlalchemy import func, select

    pool = session.execute(select(Pool.slots, Pool.include_deferred).where(Pool.pool == row.pool)).one_or_none()
    if pool is None:
        return None
    states = (*_EXECUTES, "deferred") if pool.include_deferred else _EXECUTES
    used = session.scalar(select(func.sum(Ti.pool_slots)).where(Ti.pool == row.pool, Ti.state.in_(states)))
    heavier = session.scalar(
        select(func.count()).where(
            Ti.pool == row.pool, Ti.state == "scheduled", Ti.priority_weight > row.priority_weight
        )
    )
    return PoolFacts(row.pool, None if pool.slots == -1 else pool.slots, int(used or 0), row.pool_slots, heavier or 0)


def _limits(session: "Session", query: TaskQuery, row: Any) -> Iterator[Usage]:
    """In the order in which the scheduler checks them."""
    from airflow.models.taskinstance import TaskInstance as Ti
    from sqlalchemy import func, select

    yield from _parallelism(session)
    of_run = (Ti.dag_id == query.dag, Ti.run_id == query.run)
    active = session.scalar(select(func.count()).where(*of_run, Ti.state.in_(_EXECUTES)))
    if row.max_active_tasks is not None:
        yield Usage("max_active_tasks of the run", active or 0, row.max_active_tasks)
    if not row.has_task_concurrency_limits:
        return
    task = _serialized_task(session, query)
    same = (Ti.dag_id == query.dag, Ti.task_id == query.task, Ti.state.in_(_IN_FLIGHT))
    for name, conditions in (
        ("max_active_tis_per_dag", same),
        ("max_active_tis_per_dagrun", (*same, Ti.run_id == query.run)),
    ):
        limit = getattr(task, name, None)
        if limit is not None:
            yield Usage(f"{name} of the task", session.scalar(select(func.count()).where(*conditions)) or 0, limit)


def _parallelism(session: "Session") -> Iterator[Usage]:
    """Of the scheduler with most room: each has limits of its own.

    Our executor counts what runs against `[core] parallelism`, and what waits, too, against its own limit.
    """
    from airflow.configuration import conf
    from airflow.jobs.job import Job
    from airflow.models.taskinstance import TaskInstance as Ti
    from sqlalchemy import func, select

    schedulers = session.scalars(select(Job.id).where(Job.job_type == "SchedulerJob", Job.state == "running")).all()
    if not schedulers:
        return
    counts = session.execute(
        select(Ti.queued_by_job_id, Ti.executor, Ti.state, func.count())
        .where(Ti.state.in_(_EXECUTES))
        .group_by(Ti.queued_by_job_id, Ti.executor, Ti.state)
    ).all()
    core, own = dict.fromkeys(schedulers, 0), dict.fromkeys(schedulers, 0)
    for scheduler, executor, state, number in counts:
        if scheduler not in core:
            continue
        ours = is_ours(executor)
        if ours:
            own[scheduler] += number
        if not ours or _plain(state) == "running":
            core[scheduler] += number
    for section, used in (("core", core), (SECTION, own)):
        if limit := conf.getint(section, "parallelism"):
            yield Usage(f"[{section}] parallelism", min(used.values()), limit)


def _undone(session: "Session", query: TaskQuery) -> Iterator[str]:
    """Upstream tasks that are not done; if there are none, what else Airflow's own rules name."""
    from airflow.models.taskinstance import TaskInstance as Ti
    from sqlalchemy import or_, select

    task = _serialized_task(session, query)
    if task is None:
        return
    upstream: Sequence[str] = sorted(task.upstream_task_ids)
    rows = session.execute(
        select(Ti.task_id, Ti.map_index, Ti.state)
        .where(Ti.dag_id == query.dag, Ti.run_id == query.run, Ti.task_id.in_(upstream))
        .where(or_(Ti.state.is_(None), Ti.state.not_in(_DONE)))
        .order_by(Ti.task_id, Ti.map_index)
        .limit(MAX_UNDONE)
    ).all()
    for task_id, map_index, state in rows:
        index = "" if map_index < 0 else f"[{map_index}]"
        yield f"{task_id}{index} ({_plain(state) or 'not scheduled'})"
    if not rows:
        yield from _unmet(session, query, task)


def _unmet(session: "Session", query: TaskQuery, task: Any) -> Iterator[str]:
    from airflow.models.taskinstance import TaskInstance
    from airflow.ti_deps.dep_context import DepContext
    from sqlalchemy import select

    ti = session.scalar(select(TaskInstance).where(named([(query.dag, query.task, query.run, query.map_index)])))
    if ti is None:
        return
    ti.task = task
    with session.no_autoflush:
        for status in ti.get_failed_dep_statuses(dep_context=DepContext(), session=session):
            yield f"{status.dep_name}: {status.reason}"


def _serialized_task(session: "Session", query: TaskQuery) -> Any:
    """The task in the version of the DAG that its run uses; None if it is not there."""
    from airflow.models.dagbag import DBDagBag
    from airflow.models.dagrun import DagRun
    from sqlalchemy import select

    run = session.scalar(select(DagRun).where(DagRun.dag_id == query.dag, DagRun.run_id == query.run))
    bag: Any = DBDagBag()
    dag = None if run is None else bag.get_dag_for_run(run, session=session)
    return dag.get_task(query.task) if dag is not None and dag.has_task(query.task) else None


@lru_cache(maxsize=64)
def is_ours(name: str | None) -> bool:
    """Whether a task's `executor` means one of ours; None is the default executor."""
    from airflow.executors.executor_loader import ExecutorLoader

    configured = ExecutorLoader.get_executor_names(validate_teams=False)
    if name is None:
        meant = [ExecutorLoader.get_default_executor_name(team) for team in {one.team_name for one in configured}]
    else:
        meant = [one for one in configured if name in {one.alias, one.module_path, one.module_path.rpartition(".")[2]}]
    classes = [ExecutorLoader.import_executor_cls(one)[0] for one in meant]
    return any(base.__module__.startswith(OUR_EXECUTORS) for found in classes for base in found.__mro__)


def _default_executor() -> str:
    from airflow.executors.executor_loader import ExecutorLoader

    found = ExecutorLoader.get_default_executor_name()
    return str(found.alias or found.module_path)


def _plain(state: object) -> str | None:
    return None if state is None else str(getattr(state, "value", state))
