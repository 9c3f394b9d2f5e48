"""Asks a keeper about a task instance that has no unfinished job."""

import asyncio
import uuid
from urllib.parse import quote, urlencode

import structlog
from pydantic import ValidationError

from edge_relay.gate.client import GateClient
from edge_schemas.gate.auth import GateCall
from edge_schemas.why.task_query import TaskInstanceFindings, TaskQuery
from edge_schemas.wire.errors import EdgeError, ErrorCode, Problem
from edge_schemas.wire.routes import GATE_WHY

log = structlog.get_logger(__name__)

ASK_TIMEOUT_S = 5.0


class AirflowSide:
    """The keepers' view of Airflow's database.

    Args:
        gate: None if the relay has no gate.
    """

    def __init__(self, gate: GateClient | None) -> None:
        self._gate = gate

    async def findings(self, query: TaskQuery) -> TaskInstanceFindings:
        """What a keeper found.

        Raises:
            EdgeError: `not_found`: Airflow knows no such task instance; `gate_unavailable`: no keeper could answer.
        """
        if self._gate is None:
            text = (
                "no unfinished job of this task is known, and Airflow can't be asked: RELAY_GATE_URLS names no keeper"
            )
            raise EdgeError(ErrorCode.GATE_UNAVAILABLE, text)
        target = f"{GATE_WHY}?{urlencode(query.model_dump(), quote_via=quote)}"
        call = GateCall("GET", target, "", uuid.uuid4().hex, b"")
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                answer = await self._gate.call(call, {})
        except TimeoutError:
            raise EdgeError(ErrorCode.GATE_UNAVAILABLE, f"no keeper answered within {ASK_TIMEOUT_S:g} s") from None
        if answer.status != 200:
            raise _refusal(answer.status, answer.body)
        try:
            return TaskInstanceFindings.model_validate_json(answer.body)
        except ValidationError as error:
            log.warning("findings_unreadable", errors=error.error_count())
            text = "the keeper's answer can't be read: upgrade relay and keeper to the same version"
            raise EdgeError(ErrorCode.GATE_UNAVAILABLE, text) from None


def _refusal(status: int, body: bytes) -> EdgeError:
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        return EdgeError(ErrorCode.GATE_UNAVAILABLE, f"a keeper answered with status {status}: upgrade it")
    code = ErrorCode.NOT_FOUND if problem.code == ErrorCode.NOT_FOUND else ErrorCode.GATE_UNAVAILABLE
    return EdgeError(code, problem.detail or f"a keeper could not answer: {problem.title}; read its log")
