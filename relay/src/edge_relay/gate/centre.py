"""The centre's facts, read from a keeper and cached: workers ask for them far more often than they change."""

import asyncio
import time
import uuid
from collections.abc import Callable

import structlog
from pydantic import ValidationError

from edge_relay.gate.client import GateClient
from edge_schemas.gate.auth import GateCall
from edge_schemas.gate.centre import CentreFacts
from edge_schemas.wire.errors import EdgeError
from edge_schemas.wire.routes import GATE_CENTRE

log = structlog.get_logger(__name__)

FRESH_FOR_S = 60.0
RETRY_AFTER_S = 3.0
ASK_TIMEOUT_S = 10.0
"""The callers are people at a command line and workers that enrol: neither should wait for a slow keeper."""


class Centre:
    """The centre's facts, read only when they are needed.

    Args:
        gate: None if the relay has no gate: then there are no facts.
        clock: Monotonic seconds.
    """

    def __init__(self, gate: GateClient | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._gate = gate
        self._clock = clock
        self._known: CentreFacts | None = None
        self._good_until = float("-inf")
        self._asking = asyncio.Lock()

    @property
    def known(self) -> CentreFacts | None:
        """The facts as last read, perhaps long ago; workers' polls keep them fresh."""
        return self._known

    async def facts(self) -> CentreFacts | None:
        """The facts, at most a minute old; None while no keeper answers."""
        if self._gate is None:
            return None
        async with self._asking:  # concurrent callers share one call
            if self._clock() >= self._good_until:
                self._known = await _ask(self._gate)
                self._good_until = self._clock() + (FRESH_FOR_S if self._known else RETRY_AFTER_S)
            return self._known


async def _ask(gate: GateClient) -> CentreFacts | None:
    # The relay's own call: there is no worker.
    call = GateCall("GET", GATE_CENTRE, "", uuid.uuid4().hex, b"")
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            answer = await gate.call(call, {})
    except (EdgeError, TimeoutError) as error:
        log.warning("centre_unknown", error=str(error) or "no answer in time")
        return None
    if answer.status != 200:
        # A problem of the keeper itself, for operators: it says what is wrong with the keeper's settings.
        log.warning("centre_unknown", status=answer.status, answer=answer.body[:500].decode(errors="replace"))
        return None
    try:
        return CentreFacts.model_validate_json(answer.body)
    except ValidationError as error:
        log.warning("centre_unknown", error=f"an invalid answer: {error.error_count()} errors")
        return None
