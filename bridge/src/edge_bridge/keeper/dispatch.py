"""What Airflow's database says of task instances: state, dispatch and heartbeat, looked up by primary key.

Read only. The tables are no public interface of Airflow: the tests run against each minor release.
"""

import asyncio
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

CHUNK = 500
"""Ids in one statement; a thousand tasks are two short ones."""
THREADS = 4


class DatabaseUnavailable(Exception):
    """Airflow's database did not answer."""


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A row of `task_instance`, as far as it matters here."""

    state: str | None
    dispatch: str | None
    last_heartbeat_at: datetime | None
    hostname: str | None
    pid: int | None


class Dispatches:
    """Looks task instances up. Use as a context manager: it has its own threads."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="keeper-db")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def one(self, ti_id: str) -> TaskRow | None:
        """The row of a task instance; None if there is none (any more): cleared, retried or deleted.

        Raises:
            DatabaseUnavailable: Ask again later.
        """
        return (await self.many([ti_id])).get(ti_id)

    async def many(self, ti_ids: Iterable[str]) -> dict[str, TaskRow]:
        """The rows of these task instances; those that are gone are left out.

        Raises:
            DatabaseUnavailable: Ask again later.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, _select, list(ti_ids))


def _select(ti_ids: Sequence[str]) -> dict[str, TaskRow]:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.exc import SQLAlchemyError

    found: dict[str, TaskRow] = {}
    ti = TaskInstance
    columns = (ti.id, ti.state, ti.external_executor_id, ti.last_heartbeat_at, ti.hostname, ti.pid)
    try:
        with create_session(scoped=False) as session:
            for start in range(0, len(ti_ids), CHUNK):
                ids = [uuid.UUID(ti_id) for ti_id in ti_ids[start : start + CHUNK]]
                for row in session.execute(select(*columns).where(ti.id.in_(ids))):
                    state = None if row.state is None else str(row.state)
                    found[str(row.id)] = TaskRow(
                        state, row.external_executor_id, row.last_heartbeat_at, row.hostname, row.pid
                    )
    except SQLAlchemyError as error:
        # The text of a database error may hold the connection's URL; its type says enough.
        raise DatabaseUnavailable(type(error).__name__) from None
    return found
