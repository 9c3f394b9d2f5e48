"""Which tries may have a log at the edge: found by the task instance, its executor and its history."""

import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import structlog

from edge_bridge.logs.store import LogKey

if TYPE_CHECKING:
    from airflow.executors.executor_utils import ExecutorName

log = structlog.get_logger(__name__)

NEW_ID_SAME_TRY = frozenset({None, "up_for_retry", "restarting"})
"""States in which a task instance has a new id already, but still the number of the old try."""


class DispatchedTry(Protocol):
    """What shows which executor a try was dispatched by."""

    executor: str | None
    external_executor_id: str | None


class LoggedTry(DispatchedTry, Protocol):
    """A try whose log page is open: a `TaskInstance`, or a `TaskInstanceHistory` for an older try."""

    id: uuid.UUID
    dag_id: str
    task_id: str
    run_id: str
    map_index: int
    try_number: int
    state: str | None
    hostname: str | None
    queue: str


@dataclass
class _PastTry:
    id: uuid.UUID
    try_number: int
    executor: str | None
    external_executor_id: str | None


def possible_logs(ti: LoggedTry) -> list[LogKey]:
    """Logs that may be in `EDGE_LOGS` for a try, as Airflow's log page names it."""
    keys = [(str(ti.id), int(ti.try_number))] if _may_be_ours(ti) else []
    if not hasattr(ti, "task_instance_id") and ti.state in NEW_ID_SAME_TRY:
        keys += [(str(old.id), int(old.try_number)) for old in _history(ti) if _may_be_ours(old)]
    return keys


def is_ours(ti: DispatchedTry) -> bool:
    """Whether `RelayExecutor` dispatched this task instance, as far as is known."""
    return _has_dispatch(ti) and executor_is_ours(ti.executor) is True


@lru_cache(maxsize=64)
def executor_is_ours(name: str | None) -> bool | None:
    """Whether a task's `executor` means `RelayExecutor` or a subclass; None if that is not known (any longer)."""
    from airflow.executors.executor_loader import ExecutorLoader

    from edge_bridge.executor.relay_executor import RelayExecutor

    configured = ExecutorLoader.get_executor_names(validate_teams=False)
    if name is None:
        teams = {known.team_name for known in configured}
        meant = [ExecutorLoader.get_default_executor_name(team) for team in teams]
    else:
        meant = [known for known in configured if name in _names(known)]
    if not meant:
        return None
    try:
        classes = [ExecutorLoader.import_executor_cls(known)[0] for known in meant]
    except ImportError as error:
        # The executor runs elsewhere and is not installed here; Airflow shows its logs without it.
        log.warning("executor_not_installed", executor=name, error=str(error))
        return None
    return any(issubclass(found, RelayExecutor) for found in classes)


def _names(known: "ExecutorName") -> set[str | None]:
    return {known.alias, known.module_path, known.module_path.rpartition(".")[2]}


def _may_be_ours(ti: DispatchedTry) -> bool:
    """Less strict than `is_ours`: the default executor may have been a different one when the task ran."""
    return _has_dispatch(ti) and (ti.executor is None or executor_is_ours(ti.executor) is not False)


def _has_dispatch(ti: DispatchedTry) -> bool:
    """Only executors with dispatch ids set this; LocalExecutor, the most common other executor, does not."""
    try:
        uuid.UUID(ti.external_executor_id or "")
    except ValueError:
        return False
    return True


def _history(ti: LoggedTry) -> list[_PastTry]:
    from airflow.models.taskinstancehistory import TaskInstanceHistory
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.exc import SQLAlchemyError

    old = TaskInstanceHistory
    query = select(old.task_instance_id, old.try_number, old.executor, old.external_executor_id).where(
        old.dag_id == ti.dag_id,
        old.task_id == ti.task_id,
        old.run_id == ti.run_id,
        old.map_index == ti.map_index,
        old.try_number == ti.try_number,
    )
    try:
        with create_session(scoped=False) as session:
            return [_PastTry(*row) for row in session.execute(query)]
    except SQLAlchemyError as error:
        log.warning("history_not_read", ti=str(ti.id), error=type(error).__name__)
        return []
