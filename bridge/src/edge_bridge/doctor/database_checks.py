"""Checks Airflow's database: does it answer, and which executors and queues do its DAGs name?"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from edge_bridge.airflow import database
from edge_bridge.doctor.airflow_checks import EXECUTOR, executor_names
from edge_bridge.settings import Conf
from edge_service.findings import Check, Finding, failed, ok

DATABASE, EXECUTORS = "database.answers", "dags.executors"
AT_ONCE = 50
SHOWN = 5
_MANY_S = 19.0


@dataclass(frozen=True, slots=True)
class TaskNames:
    """A task of a DAG with its queue and executor.

    Attributes:
        executor: None if it names none.
    """

    dag: str
    task: str
    queue: str
    executor: str | None


class DatabaseDoctor:
    """Checks Airflow's database.

    Attributes:
        our_queues: Queues of tasks for RelayExecutor, each with one of its tasks; known after the check `EXECUTORS`.
    """

    def __init__(self, conf: Conf) -> None:
        self._conf = conf
        self.our_queues: dict[str, str] = {}

    def checks(self) -> Iterator[Check]:
        """First whether it answers, then its content."""
        yield Check(DATABASE, self._answers, limit_s=_MANY_S)
        yield Check(EXECUTORS, self._executors, (DATABASE, EXECUTOR), limit_s=_MANY_S)

    async def _answers(self) -> Finding:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            dialect, dags = await database.run_query(_count_dags)
        except SQLAlchemyError as error:
            advice = "Check [database] sql_alchemy_conn and whether the database runs, and run 'airflow db migrate'."
            # Not the text: it may contain the statement, and the URL with its password.
            return failed(DATABASE, f"Airflow's database can't be read: {type(error).__name__}", advice)
        return ok(DATABASE, f"Airflow's database ({dialect}) answers; {dags} DAGs in it")

    async def _executors(self) -> list[Finding]:
        names = executor_names()
        tasks = await database.run_query(lambda: list(_tasks(self._conf)))
        errors = await database.run_query(_executor_errors)
        unknown, by_class = [], []
        for task in tasks:
            executor = task.executor or names.default
            where = f"{task.dag}.{task.task} ({executor!r})"
            if executor not in names.known:
                unknown.append(where)
            elif executor in names.ours:
                self.our_queues.setdefault(task.queue, f"{task.dag}.{task.task}")
            elif executor in {name.rpartition(".")[2] for name in names.ours}:
                by_class.append(where)
        findings = []
        best = min(names.ours, key=len, default="an alias of ours")
        if unknown or errors:
            advice = (
                "Correct these DAGs, or add the executor to [core] executor of scheduler, dag-processor, api-server "
                f"and keeper. Ours is named {best!r}."
            )
            detail = f"tasks name an executor that is not configured: {_some([*unknown, *errors])}"
            findings.append(failed(EXECUTORS, detail, advice))
        if by_class:
            advice = (
                f"Write executor={best!r}: with only the class name Airflow assigns no dispatch id, and we refuse them."
            )
            findings.append(failed(EXECUTORS, f"tasks name our class, not its alias: {_some(by_class)}", advice))
        count = len(self.our_queues)
        return findings or [ok(EXECUTORS, f"{len(tasks)} tasks name configured executors; {count} queues are ours")]


def _count_dags() -> tuple[str, int]:
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import func, select

    with create_session(scoped=False) as session:
        count = session.scalar(select(func.count()).select_from(DagModel).where(~DagModel.is_stale))
        return session.get_bind().dialect.name, int(count or 0)


def _tasks(conf: Conf) -> Iterator[TaskNames]:
    """The tasks of all current DAGs, as last serialized."""
    from airflow.models.dag import DagModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    default_queue = conf.get("operators", "default_queue") or "default"
    with create_session(scoped=False) as session:
        ids = session.scalars(select(DagModel.dag_id).where(~DagModel.is_stale).order_by(DagModel.dag_id)).all()
        for start in range(0, len(ids), AT_ONCE):
            for stored in SerializedDagModel.get_latest_serialized_dags(
                dag_ids=list(ids[start : start + AT_ONCE]), session=session
            ):
                yield from _tasks_of(stored.dag_id, stored.data, default_queue)
            session.expunge_all()


def _tasks_of(dag_id: str, stored: object, default_queue: str) -> Iterator[TaskNames]:
    """The tasks of a serialized DAG, which is a dictionary or its JSON."""
    data = _dict(json.loads(stored) if isinstance(stored, (str, bytes)) else stored)
    defaults = _dict(_dict(data.get("client_defaults")).get("tasks"))
    items = _dict(data.get("dag")).get("tasks")
    for item in map(_dict, items if isinstance(items, list) else ()):
        task = _dict(item.get("__var", item))
        # A mapped task has them among the arguments that are not mapped.
        named = {**defaults, **_dict(task.get("partial_kwargs")), **task}
        queue, executor = _text(named.get("queue")), _text(named.get("executor"))
        yield TaskNames(dag_id, str(task.get("task_id")), queue or default_queue, executor)


def _dict(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _executor_errors() -> list[str]:
    """Files whose DAGs Airflow rejected because of an executor."""
    from airflow.models.errors import ParseImportError
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session(scoped=False) as session:
        rows = session.execute(
            select(ParseImportError.filename, ParseImportError.stacktrace).where(
                ParseImportError.stacktrace.contains("UnknownExecutorException")
            )
        )
        return [str(row.filename) for row in rows]


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
