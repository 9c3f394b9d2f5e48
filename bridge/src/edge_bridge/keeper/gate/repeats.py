"""How a repeat of a write is recognised as done, for each write that Airflow answers differently the second time.

A write is repeated under its request id if its answer was lost, whichever part died between Airflow's commit and the
answer. The record knows that the write was begun, and Airflow's database knows what became of the write: any keeper
finds the answer there. `docs/reference/repeated-writes.md` lists all writes.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import parse_qsl

import orjson
import structlog
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from edge_bridge.keeper.gate import evidence
from edge_bridge.keeper.gate.answers import JSON, NO_CONTENT
from edge_bridge.keeper.gate.holder_call import HolderCall, from_database
from edge_bridge.keeper.gate.rules import CallKind
from edge_bridge.keeper.gate.upstream import Answer, ExecutionCall
from edge_bridge.keeper.tokens import subject_of
from edge_schemas.gate.execution_paths import split_path
from edge_schemas.life.model import OpenWrite

log = structlog.get_logger(__name__)

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

_ABSENT = "absent"
_UNANSWERED = "unanswered"
_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})


@dataclass(frozen=True, slots=True)
class Repeat:
    """How a repeat of a write is recognised as done.

    Attributes:
        done: The answer, if Airflow holds what the write was to do. None means that the write must be sent. Called for
            repeats only.
        note: What Airflow holds before the write is first sent, for `done` to compare; None if it needs nothing.
        keep_answer: Whether the record keeps Airflow's answer. Not needed if `done` finds it again.
    """

    done: Callable[[HolderCall, OpenWrite], Awaitable[Answer | None]]
    note: Callable[[HolderCall], Awaitable[str]] | None = None
    keep_answer: bool = True


class _Response(BaseModel):
    """What is read of an answer to a question."""

    model_config = ConfigDict(extra="ignore")

    chosen_options: list[str]
    params_input: dict[str, JsonValue] = {}


class _Result(BaseModel):
    """What is read of the result of a connection test."""

    model_config = ConfigDict(extra="ignore")

    state: str
    result_message: str | None = None


async def _xcom_done(held: HolderCall, _: OpenWrite) -> Answer | None:
    """The same value is there."""
    key = "/".join(split_path(held.call.execution.path)).split("/", 4)[4]
    sent = _sent_xcom(held.call.execution)
    if sent is None or not await _from_airflow(held, partial(evidence.has_xcom, held.task, key, sent)):
        return None
    return Answer(201, orjson.dumps({"message": "XCom successfully set"}), JSON)


def _sent_xcom(call: ExecutionCall) -> evidence.SentXCom | None:
    """What the call stores; None if a later version of Airflow stores more than is compared here."""
    is_dag_result, mapped_length = False, None
    for name, value in parse_qsl(call.query, keep_blank_values=True):
        if name == "dag_result":
            is_dag_result = value.lower() in _TRUE
        elif name == "mapped_length" and value.isdecimal():
            mapped_length = int(value)
        elif name != "map_index":
            return None
    return evidence.SentXCom(call.body, is_dag_result, mapped_length)


async def _note_run(held: HolderCall) -> str:
    """How often the DAG run was cleared, or that there is none."""
    _, dag_id, run_id = split_path(held.call.execution.path)[:3]
    cleared = await _from_airflow(held, partial(evidence.times_cleared, dag_id, run_id))
    return _ABSENT if cleared is None else str(cleared)


async def _trigger_done(held: HolderCall, begun: OpenWrite) -> Answer | None:
    """The run is there, and was not before. The task would fail, or clear a run that has just begun."""
    is_created = begun.before == _ABSENT and await _note_run(held) != _ABSENT
    return NO_CONTENT if is_created else None


async def _clear_done(held: HolderCall, begun: OpenWrite) -> Answer | None:
    """The run was cleared since. A second clear would end what has begun since, and repeat it."""
    now = await _note_run(held)
    is_cleared = begun.before is not None and _ABSENT not in {begun.before, now} and now != begun.before
    return NO_CONTENT if is_cleared else None


async def _question(held: HolderCall) -> evidence.StoredQuestion | None:
    return await _from_airflow(held, partial(evidence.question, held.task.ti_id))


def _note_of(question: evidence.StoredQuestion | None) -> str:
    if question is None:
        return _ABSENT
    return _UNANSWERED if question.responded_at is None else question.responded_at.isoformat()


async def _note_question(held: HolderCall) -> str:
    """Whether there is a question, and when a person answered."""
    return _note_of(await _question(held))


async def _ask_done(held: HolderCall, begun: OpenWrite) -> Answer | None:
    """The question is there, and was not before, or its old answer was removed.

    To an unanswered question, Airflow does nothing. A second time, it would remove an answer that was given since.
    """
    question = await _question(held)
    if question is None or begun.before is None:
        return None
    is_asked = begun.before == _UNANSWERED or _note_of(question) != begun.before
    return Answer(201, question.as_answered, JSON) if is_asked else None


async def _respond_done(held: HolderCall, _: OpenWrite) -> Answer | None:
    """The question has this answer. Airflow's answer to the write is what it answers to a read."""
    wanted, question = _parsed(held, _Response), await _question(held)
    if wanted is None or question is None or question.responded_at is None:
        return None
    given = _Response(chosen_options=question.chosen_options, params_input=question.params_input)
    if not evidence.is_same_json(given.model_dump(), wanted.model_dump()):
        return None
    read = replace(held.call.execution, method="GET", body=b"")
    answer = await held.parts.api.call(subject_of(held.record), read)
    return answer if answer.accepted else None


async def _test(held: HolderCall) -> evidence.StoredTest | None:
    assert held.record.auxiliary is not None  # noqa: S101  # by its rule
    test_id = held.record.auxiliary.id
    return await _from_airflow(held, partial(evidence.connection_test, test_id))


async def _note_test(held: HolderCall) -> str:
    """The state of the connection test."""
    test = await _test(held)
    return _ABSENT if test is None else test.state


async def _fetch_done(held: HolderCall, begun: OpenWrite) -> Answer | None:
    """The connection was fetched since. No record may keep the answer: it holds a password."""
    test = await _test(held)
    if test is None or test.state != "running" or begun.before in {None, _ABSENT, "running"}:
        return None
    if test.connection is None:
        log.warning("tested_connection_unreadable", job=held.call.job, hint="compare [core] fernet_key")
        return None
    return Answer(200, orjson.dumps(test.connection), JSON)


async def _result_done(held: HolderCall, _: OpenWrite) -> Answer | None:
    """The test has this result."""
    wanted, test = _parsed(held, _Result), await _test(held)
    if wanted is None or test is None or (test.state, test.result_message) != (wanted.state, wanted.result_message):
        return None
    return NO_CONTENT


async def _from_airflow(held: HolderCall, query: Callable[[], T]) -> T:
    """What Airflow holds, by a function of `evidence`.

    Raises:
        EdgeError: `gate_unavailable`: the database does not answer.
    """
    return await from_database(held.parts.dispatches.query(query))


def _parsed(held: HolderCall, model: type[M]) -> M | None:
    """The body; None if it is malformed, which Airflow will answer."""
    try:
        return model.model_validate_json(held.call.execution.body)
    except ValidationError:
        return None


REPEATS: Mapping[CallKind, Repeat] = MappingProxyType(
    {
        CallKind.XCOM: Repeat(_xcom_done, keep_answer=False),
        CallKind.TRIGGER: Repeat(_trigger_done, _note_run),
        CallKind.CLEAR: Repeat(_clear_done, _note_run),
        CallKind.ASK: Repeat(_ask_done, _note_question),
        CallKind.RESPOND: Repeat(_respond_done),
        CallKind.FETCH: Repeat(_fetch_done, _note_test, keep_answer=False),
        CallKind.RESULT: Repeat(_result_done),
    }
)
"""The kinds of writes that Airflow answers differently the second time. A repeat of any other write is sent again."""
