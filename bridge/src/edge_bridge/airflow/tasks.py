"""Task instances in Airflow's database, read in sessions of their own, never in the scheduler's."""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from edge_bridge.airflow.database import run_query
from edge_bridge.airflow.dispatch_table import Entry
from edge_bridge.airflow.mapping import Row
from edge_schemas.wire.jobs import TaskIdentity

if TYPE_CHECKING:
    from airflow.executors.workloads import ExecuteTask
    from sqlalchemy import ColumnElement

BATCH = 200

Name = tuple[str, str, str, int]


def name_of(task: TaskIdentity) -> Name:
    """What identifies a task instance over tries and clears; its id changes."""
    return task.dag_id, task.task_id, task.run_id, task.map_index


def named(names: Iterable[Name]) -> "ColumnElement[bool]":
    """The condition that a row of `task_instance` has one of these names."""
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import tuple_

    columns = (TaskInstance.dag_id, TaskInstance.task_id, TaskInstance.run_id, TaskInstance.map_index)
    return tuple_(*columns).in_(list(names))


async def read_rows(entries: Iterable[Entry]) -> dict[str, Row]:
    """State and dispatch of the task instances of dispatches, by job; jobs whose task instances are gone are missing.

    Raises:
        TimeoutError: The database did not answer in time.
        sqlalchemy.exc.SQLAlchemyError: The database refused.
    """
    names = {entry.job: name_of(entry.task) for entry in entries if entry.task is not None}
    if not names:
        return {}
    rows = await run_query(partial(_select_rows, sorted(set(names.values()))))
    return {job: rows[name] for job, name in names.items() if name in rows}


def try_numbers(ids: Iterable[UUID]) -> dict[UUID, int]:
    """The tries of task instances, read in few queries.

    Airflow passes orphans without their tries: each would be read in a query of its own, while the scheduler waits.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database refused.
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    wanted = list(ids)
    found: dict[UUID, int] = {}
    with create_session(scoped=False) as session:
        for start in range(0, len(wanted), BATCH):
            query = select(TaskInstance.id, TaskInstance.try_number)
            rows = session.execute(query.where(TaskInstance.id.in_(wanted[start : start + BATCH])))
            found |= {row.id: row.try_number for row in rows}
    return found


async def rebuild(task: TaskIdentity, dispatch: str) -> "ExecuteTask | None":
    """The workload of a task that is still queued with this dispatch, rebuilt without a token; otherwise None.

    Raises:
        TimeoutError: The database did not answer in time.
        sqlalchemy.exc.SQLAlchemyError: The database refused.
    """
    return await run_query(partial(_make_workload, task, dispatch))


def _select_rows(names: list[Name]) -> dict[Name, Row]:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    ti = TaskInstance
    found: dict[Name, Row] = {}
    query = select(ti.dag_id, ti.task_id, ti.run_id, ti.map_index, ti.state, ti.external_executor_id)
    with create_session(scoped=False) as session:
        for start in range(0, len(names), BATCH):
            rows = session.execute(query.where(named(names[start : start + BATCH])))
            for dag_id, task_id, run_id, map_index, state, dispatch in rows:
                plain = None if state is None else str(getattr(state, "value", state))
                found[dag_id, task_id, run_id, map_index] = Row(plain, dispatch)
    return found


def _make_workload(task: TaskIdentity, dispatch: str) -> "ExecuteTask | None":
    from airflow.executors.workloads import ExecuteTask
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import select

    with create_session(scoped=False) as session:
        query = select(TaskInstance).where(
            named([name_of(task)]),
            TaskInstance.state == TaskInstanceState.QUEUED,
            TaskInstance.external_executor_id == dispatch,
        )
        ti = session.scalar(query)
        return None if ti is None else ExecuteTask.make(ti)
