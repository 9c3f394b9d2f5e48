"""What Airflow's database holds of a write: whether a try whose answer was lost took effect. Read only.

The functions run in a thread, by `Dispatches.query`.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import JsonValue

from edge_bridge.keeper.dispatch import airflow_session
from edge_schemas.wire.jobs import TaskIdentity

if TYPE_CHECKING:
    from airflow.models.connection_test import ConnectionTestRequest
    from sqlalchemy import ColumnElement, Table


@dataclass(frozen=True, slots=True)
class SentXCom:
    """An XCom as a task sends it.

    Attributes:
        value: JSON.
        is_dag_result: It is the result of the DAG.
        mapped_length: Into how many task instances the value is expanded; None if no task is mapped over it.
    """

    value: bytes
    is_dag_result: bool = False
    mapped_length: int | None = None


@dataclass(frozen=True, slots=True)
class StoredQuestion:
    """A question to a person, with the answer that was given.

    Attributes:
        as_answered: What Airflow answers to the request that creates the question: JSON.
    """

    as_answered: bytes
    responded_at: datetime | None
    chosen_options: list[str]
    params_input: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class StoredTest:
    """A connection test.

    Attributes:
        connection: What Airflow answers to the request that fetches the connection, with its password. None if this
            process can't decrypt the password.
    """

    state: str
    result_message: str | None
    connection: dict[str, str | int | None] | None


def has_xcom(task: TaskIdentity, key: str, sent: SentXCom) -> bool:
    """Whether the XCom of a task instance is what was sent."""
    from airflow.models.taskmap import TaskMap
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    xcoms, lengths = XComModel.__table__, TaskMap.__table__
    with airflow_session() as session:
        found = session.execute(select(xcoms).where(*_of(task, xcoms), xcoms.c.key == key)).mappings().one_or_none()
        if found is None:
            return False
        length = session.scalar(select(lengths.c.length).where(*_of(task, lengths)))
    # A value that is sent without a length leaves the length of an earlier one. Airflow 3.2 has no results of DAGs.
    if sent.mapped_length not in {None, length} or bool(found.get("dag_result")) != sent.is_dag_result:
        return False
    try:
        return is_same_json(json.loads(sent.value or b"null"), found["value"])
    except (ValueError, RecursionError):
        return False


def is_same_json(one: JsonValue, other: JsonValue) -> bool:
    """Whether two values are the same to a database: `1` and `1.0` are, `1` and `true` are not."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same_json(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same_json, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def times_cleared(dag_id: str, run_id: str) -> int | None:
    """How often a run of a DAG was cleared; None if there is no such run."""
    from airflow.models.dagrun import DagRun
    from sqlalchemy import select

    with airflow_session() as session:
        return session.scalar(select(DagRun.clear_number).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))


def question(ti_id: str) -> StoredQuestion | None:
    """The question that a task instance asked; None if it asked none."""
    from airflow.api_fastapi.execution_api.datamodels.hitl import HITLDetailRequest
    from airflow.models.hitl import HITLDetail

    with airflow_session() as session:
        found = session.get(HITLDetail, UUID(ti_id))
        if found is None:
            return None
        answer = HITLDetailRequest.model_validate(found).model_dump_json().encode()
        return StoredQuestion(answer, found.responded_at, list(found.chosen_options or ()), found.params_input or {})


def connection_test(test_id: str) -> StoredTest | None:
    """A connection test; None if there is none. Airflow 3.2 has no connection tests."""
    from airflow.models.connection_test import ConnectionTestRequest

    with airflow_session() as session:
        found = session.get(ConnectionTestRequest, UUID(test_id))
        if found is None:
            return None
        return StoredTest(str(found.state), found.result_message, _connection(found))


def _of(task: TaskIdentity, table: "Table") -> "tuple[ColumnElement[bool], ...]":
    """The condition for the rows of a task instance."""
    names = ("dag_id", "run_id", "task_id", "map_index")
    return tuple(table.c[name] == getattr(task, name) for name in names)


def _connection(test: "ConnectionTestRequest") -> dict[str, str | int | None] | None:
    from cryptography.fernet import InvalidToken

    try:
        secret = {"password": test.password, "extra": test.extra}
    except (ValueError, InvalidToken):
        return None
    return {
        "conn_id": test.connection_id,
        "conn_type": test.conn_type,
        "host": test.host,
        "login": test.login,
        "schema": test.schema,
        "port": test.port,
        **secret,
    }
