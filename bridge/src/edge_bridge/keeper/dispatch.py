"""Reads task instances from Airflow's database, by key, and limits all queries of the keeper.

Read only. The tables are no public interface of Airflow: the tests run against each minor release.
"""

import asyncio
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from edge_bridge.airflow.database import ANSWER_S, run_query
from edge_bridge.airflow.mapping import ACTIVE_STATES
from edge_bridge.airflow.tasks import name_of, named
from edge_schemas.life.model import JobRecord
from edge_schemas.wire.jobs import TaskIdentity

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

T = TypeVar("T")

CHUNK = 500
"""Ids in one statement; a thousand tasks are two short ones."""
AT_ONCE = 4
PASSING_STATES = frozenset({"up_for_retry", "up_for_reschedule", "deferred", "awaiting_input"})
"""Final for the job, not for the task, which continues in another dispatch."""


class DatabaseUnavailable(Exception):
    """Airflow's database did not answer."""


@dataclass(frozen=True, slots=True)
class TaskRow:
    """The columns of a row of `task_instance` that matter here."""

    state: str | None
    dispatch: str | None
    last_heartbeat_at: datetime | None
    queue: str | None = None
    dag: str | None = None


class Dispatched(NamedTuple):
    """A dispatch that Airflow made, by Airflow's database: a relay may write another queue or DAG into a record.

    Attributes:
        queue: None for a callback or a connection test.
        dag: Likewise.
    """

    queue: str | None
    dag: str | None


def is_current(record: JobRecord, row: TaskRow | None) -> bool:
    """Whether the job is the current dispatch of its task instance."""
    return row is not None and row.dispatch == record.id


def is_wanted(record: JobRecord, row: TaskRow | None) -> bool:
    """Whether the job is the current dispatch, and Airflow waits for its end."""
    return is_current(record, row) and row is not None and row.state in ACTIVE_STATES


def has_accepted(record: JobRecord, state: str, row: TaskRow | None) -> bool:
    """Whether Airflow has accepted this final state of the job earlier, although it rejects it now.

    After it, a retried task instance has a new id, and a deferred one may be dispatched again: Airflow rejects a
    repeat of the state then. What became of the task shows whether the state was accepted.

    Args:
        row: Of the task, whatever id it has now.
    """
    if row is None or row.dispatch is None:
        return False
    if row.dispatch != record.id:
        return state in PASSING_STATES
    return row.state == state or (row.state == "scheduled" and state in PASSING_STATES)


class Dispatches:
    """Reads task instances, with a limited number of queries at a time."""

    def __init__(self) -> None:
        self._limit = asyncio.Semaphore(AT_ONCE)

    async def one(self, ti_id: str) -> TaskRow | None:
        """The row of a task instance; None if there is none (any longer): cleared, retried or deleted.

        Raises:
            DatabaseUnavailable: Try again later.
        """
        return (await self.many([ti_id])).get(ti_id)

    async def many(self, ti_ids: Iterable[str]) -> dict[str, TaskRow]:
        """The rows of these task instances; those that are gone are left out.

        Raises:
            DatabaseUnavailable: Try again later.
        """
        return await self.query(partial(_select_by_id, list(ti_ids)))

    async def by_name(self, task: TaskIdentity) -> TaskRow | None:
        """The row of a task whose id may have changed; None if it was deleted.

        Raises:
            DatabaseUnavailable: Try again later.
        """
        return await self.query(partial(_select_by_name, task))

    async def earlier(self, ti_id: str, job: str) -> TaskRow | None:
        """The row of an earlier try whose dispatch was the job; Airflow keeps it in its history under the try's id.

        Raises:
            DatabaseUnavailable: Try again later.
        """
        return await self.query(partial(_select_earlier, ti_id, job))

    async def ping(self) -> None:
        """Checks that the database answers.

        Raises:
            DatabaseUnavailable: It does not.
        """
        await self.query(_select_nothing)

    async def query(self, query: Callable[[], T]) -> T:
        """The result of a function that reads in an `airflow_session`; counts towards the limit.

        Raises:
            DatabaseUnavailable: Try again later.
        """
        try:
            return await run_query(query, limit=self._limit)
        except TimeoutError:
            raise DatabaseUnavailable(f"no answer within {ANSWER_S:g} s") from None


def _select_nothing() -> None:
    from sqlalchemy import text

    with airflow_session() as session:
        session.execute(text("SELECT 1"))


def _select_by_id(ti_ids: Sequence[str]) -> dict[str, TaskRow]:
    from airflow.models.taskinstance import TaskInstance

    ids = [_uuid(ti_id) for ti_id in ti_ids]
    chunks = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
    return _select(*(TaskInstance.id.in_(chunk) for chunk in chunks))


@lru_cache(maxsize=65536)
def _uuid(ti_id: str) -> uuid.UUID:
    """Parsing the ids of all running tasks in each check of the database would be a tenth of its cost."""
    return uuid.UUID(ti_id)


def _select_by_name(task: TaskIdentity) -> TaskRow | None:
    return next(iter(_select(named([name_of(task)])).values()), None)


def _select(*conditions: "ColumnElement[bool]") -> dict[str, TaskRow]:
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    found: dict[str, TaskRow] = {}
    ti = TaskInstance
    columns = (ti.id, ti.state, ti.external_executor_id, ti.last_heartbeat_at, ti.queue, ti.dag_id)
    with airflow_session() as session:
        for condition in conditions:
            for ti_id, state, dispatch, beat_at, queue, dag in session.execute(select(*columns).where(condition)):
                found[str(ti_id)] = TaskRow(None if state is None else str(state), dispatch, beat_at, queue, dag)
    return found


def _select_earlier(ti_id: str, job: str) -> TaskRow | None:
    from airflow.models.taskinstancehistory import TaskInstanceHistory
    from sqlalchemy import select

    past = TaskInstanceHistory
    with airflow_session() as session:
        same = (past.task_instance_id == _uuid(ti_id), past.external_executor_id == job)
        row = session.execute(select(past.state, past.queue, past.dag_id).where(*same)).first()
    if row is None:
        return None
    return TaskRow(None if row.state is None else str(row.state), job, None, row.queue, row.dag_id)


@contextmanager
def airflow_session() -> "Iterator[Session]":
    """A session of its own, for a query in `Dispatches.query`.

    Raises:
        DatabaseUnavailable: In place of any error of the database.
    """
    from airflow.utils.session import create_session
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with create_session(scoped=False) as session:
            yield session
    except SQLAlchemyError as error:
        # The text of a database error may contain the connection's URL; its type is enough.
        raise DatabaseUnavailable(type(error).__name__) from None
