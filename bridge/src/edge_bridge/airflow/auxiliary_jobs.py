"""Auxiliary jobs in Airflow's database: callbacks and connection tests, read in sessions of their own.

Airflow 3.2 has no connection tests.
"""

from collections.abc import Hashable, Iterable
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from edge_bridge.airflow.database import run_query
from edge_bridge.airflow.dispatch_table import Entry
from edge_bridge.airflow.mapping import Row
from edge_bridge.airflow.tasks import BATCH
from edge_schemas.wire.jobs import AuxiliaryJob, AuxiliaryKind

if TYPE_CHECKING:
    from airflow.executors.executor_utils import ExecutorName
    from airflow.executors.workloads import ExecuteCallback, TestConnection
    from airflow.models.callback import ExecutorCallback
    from airflow.models.connection_test import ConnectionTestRequest
    from sqlalchemy.orm import Session

    Model = ExecutorCallback | ConnectionTestRequest
    """A row of an auxiliary job."""

HANDED_OUT = ("queued", "running")
NOT_YET = frozenset({"scheduled", "pending"})
"""The scheduler commits "queued" after it has handed out the job. Without the commit it hands out the job again."""


async def read_rows(entries: Iterable[Entry]) -> dict[str, Row]:
    """The states of auxiliary jobs, by job; jobs whose rows are gone are missing.

    Raises:
        TimeoutError: The database did not answer in time.
        sqlalchemy.exc.SQLAlchemyError: The database refused.
    """
    jobs = {entry.job: entry.auxiliary for entry in entries if entry.auxiliary is not None}
    if not jobs:
        return {}
    states = await run_query(partial(_read_states, set(jobs.values())))
    return {job: Row(states[auxiliary], auxiliary.id) for job, auxiliary in jobs.items() if auxiliary in states}


async def handed_out() -> list[AuxiliaryJob]:
    """The auxiliary jobs that Airflow waits for, of all executors.

    Raises:
        TimeoutError: The database did not answer in time.
        sqlalchemy.exc.SQLAlchemyError: The database refused.
    """
    return await run_query(_read_handed_out)


async def is_for(auxiliary: AuxiliaryJob, executor: "ExecutorName") -> bool:
    """Whether Airflow's scheduler hands out this auxiliary job to this executor.

    Raises:
        TimeoutError: The database did not answer in time.
        sqlalchemy.exc.SQLAlchemyError: The database refused.
    """
    chosen = await run_query(partial(_chosen_executor, auxiliary))
    return chosen is not None and chosen == executor  # Airflow's names can't be compared with None


async def rebuild(auxiliary: AuxiliaryJob) -> "ExecuteCallback | TestConnection | None":
    """The workload of an auxiliary job that is still queued, rebuilt without a token; otherwise None.

    Raises:
        TimeoutError: The database did not answer in time.
        sqlalchemy.exc.SQLAlchemyError: The database refused.
    """
    return await run_query(partial(_make_workload, auxiliary))


async def fail_connection_test(auxiliary: AuxiliaryJob, reason: str) -> None:
    """Fail a test that Airflow still waits for: Airflow accepts no event for a test, and would wait for its time-out.

    Raises:
        TimeoutError: The database did not answer in time.
        sqlalchemy.exc.SQLAlchemyError: The database refused.
    """
    await run_query(partial(_fail_connection_test, UUID(auxiliary.id), reason))


def key_of(auxiliary: AuxiliaryJob) -> Hashable:
    """Airflow's own key of an auxiliary job."""
    if auxiliary.kind is AuxiliaryKind.CONNECTION_TEST:
        from airflow.models.connection_test import ConnectionTestKey

        return ConnectionTestKey(id=auxiliary.id)
    from airflow.executors.workloads.callback import CallbackDTO, CallbackFetchMethod

    return CallbackDTO(id=auxiliary.id, fetch_method=CallbackFetchMethod.IMPORT_PATH, data={}).key


def _models() -> "dict[AuxiliaryKind, type[Model]]":
    from airflow.models.callback import ExecutorCallback

    models: dict[AuxiliaryKind, type[Model]] = {AuxiliaryKind.CALLBACK: ExecutorCallback}
    try:
        from airflow.models.connection_test import ConnectionTestRequest
    except ImportError:
        return models
    return models | {AuxiliaryKind.CONNECTION_TEST: ConnectionTestRequest}


def _read_states(auxiliary_jobs: set[AuxiliaryJob]) -> dict[AuxiliaryJob, str | None]:
    from airflow.utils.session import create_session
    from sqlalchemy import select

    found: dict[AuxiliaryJob, str | None] = {}
    with create_session(scoped=False) as session:
        for kind, model in _models().items():
            ids = [UUID(auxiliary.id) for auxiliary in auxiliary_jobs if auxiliary.kind is kind]
            for start in range(0, len(ids), BATCH):
                rows = session.execute(select(model.id, model.state).where(model.id.in_(ids[start : start + BATCH])))
                found |= {AuxiliaryJob(kind=kind, id=str(row.id)): _plain(row.state) for row in rows}
    return found


def _read_handed_out() -> list[AuxiliaryJob]:
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session(scoped=False) as session:
        return [
            AuxiliaryJob(kind=kind, id=str(identifier))
            for kind, model in _models().items()
            for identifier in session.scalars(select(model.id).where(model.state.in_(HANDED_OUT)))
        ]


def _chosen_executor(auxiliary: AuxiliaryJob) -> "ExecutorName | None":
    """The executor that the scheduler's `_try_to_load_executor` chooses."""
    from airflow.executors.executor_loader import ExecutorLoader
    from airflow.utils.session import create_session

    with create_session(scoped=False) as session:
        row = _row(auxiliary, session)
        if row is None:
            return None
        wanted, team = row.get_executor_name(), _team(row, session)
    names = [name for name in ExecutorLoader.get_executor_names(validate_teams=False) if name.team_name in (team, None)]
    names.sort(key=lambda name: name.team_name != team)
    for name in names:
        if wanted in {None, name.alias, name.module_path, name.module_path.rpartition(".")[2]}:
            return name
    return None


def _row(auxiliary: AuxiliaryJob, session: "Session") -> "Model | None":
    if auxiliary.kind is AuxiliaryKind.CONNECTION_TEST:
        from airflow.models.connection_test import ConnectionTestRequest

        return session.get(ConnectionTestRequest, UUID(auxiliary.id))
    from airflow.models.callback import ExecutorCallback

    return session.get(ExecutorCallback, UUID(auxiliary.id))


def _team(row: "Model", session: "Session") -> str | None:
    from airflow.configuration import conf
    from airflow.models.dag import DagModel

    if not conf.getboolean("core", "multi_team", fallback=False):
        return None
    if (dag_id := row.get_dag_id()) is None:
        return getattr(row, "team_name", None)
    return DagModel.get_team_name(dag_id, session=session)


def _make_workload(auxiliary: AuxiliaryJob) -> "ExecuteCallback | TestConnection | None":
    from airflow.utils.session import create_session

    make = _make_test if auxiliary.kind is AuxiliaryKind.CONNECTION_TEST else _make_callback
    with create_session(scoped=False) as session:
        return make(UUID(auxiliary.id), session)


def _make_callback(identifier: UUID, session: "Session") -> "ExecuteCallback | None":
    from airflow.executors.workloads import ExecuteCallback
    from airflow.models.callback import ExecutorCallback
    from airflow.models.dagrun import DagRun

    row = session.get(ExecutorCallback, identifier)
    if row is None or row.state != "queued":
        return None
    run = session.get(DagRun, row.data.get("dag_run_id"))
    return None if run is None else ExecuteCallback.make(row, run)


def _make_test(identifier: UUID, session: "Session") -> "TestConnection | None":
    from airflow.configuration import conf
    from airflow.executors.workloads import TestConnection
    from airflow.models.connection_test import ConnectionTestRequest

    row = session.get(ConnectionTestRequest, identifier)
    if row is None or row.state != "queued":
        return None
    timeout = conf.getint("connection_test", "timeout", fallback=60)
    return TestConnection.make(
        connection_test_id=row.id, connection_id=row.connection_id, timeout=timeout, queue=row.queue
    )


def _fail_connection_test(identifier: UUID, reason: str) -> None:
    from airflow.models.connection_test import ConnectionTestRequest
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session(scoped=False) as session:
        query = select(ConnectionTestRequest).where(ConnectionTestRequest.id == identifier)
        # Locked: the worker's own result may arrive at this moment.
        test = session.scalar(query.where(ConnectionTestRequest.state.in_(HANDED_OUT)).with_for_update())
        if test is not None:
            test.state, test.result_message = "failed", reason[:2000]


def _plain(state: object) -> str | None:
    plain = None if state is None else str(getattr(state, "value", state))
    return "queued" if plain in NOT_YET else plain
