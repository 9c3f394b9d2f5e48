"""Checks one call for a job and forwards it: does the worker hold the job, is the call allowed, may it write now?

Most writes are remembered with their answers in the job's record, so that a repeat after a lost answer gets the same
answer from any keeper: Airflow itself would answer a repeated `up_for_retry` with 404. If no answer has arrived here,
`repeats` finds out what became of the write.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from weakref import WeakValueDictionary

from pydantic import TypeAdapter, ValidationError

from edge_bridge.keeper.dispatch import Dispatches
from edge_bridge.keeper.gate.answers import NO_SUCH_PATH, replayed
from edge_bridge.keeper.gate.call_kinds import HANDLING, Handling
from edge_bridge.keeper.gate.holder_call import GateParts, HolderCall, JobCall
from edge_bridge.keeper.gate.rules import check
from edge_bridge.keeper.gate.upstream import Answer, ExecutionApi
from edge_bridge.keeper.policy.need_to_know import NeedToKnow
from edge_bridge.keeper.policy.uses import Use, uses
from edge_bridge.signing.trust import CentreTrust
from edge_broker.records import RecordStore
from edge_schemas.gate.execution_paths import encode_path, split_path
from edge_schemas.gate.limits import DEFAULT_LIMITS, CallLimits
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.ids import RequestId

_REQUEST_ID: TypeAdapter[str] = TypeAdapter(RequestId)


class PassThrough:
    """Answers the calls for jobs.

    Args:
        records: Decide who holds a job; read through the stream leader at each call.
        dispatches: Airflow's database.
        api: Airflow's Execution API.
        trust: Checks that the executor has signed a job.
        need_to_know: What jobs may use.
        limits: Of path and query.
    """

    def __init__(
        self,
        records: RecordStore,
        dispatches: Dispatches,
        api: ExecutionApi,
        trust: CentreTrust,
        need_to_know: NeedToKnow,
        *,
        limits: CallLimits = DEFAULT_LIMITS,
    ) -> None:
        self._limits = limits
        self._need_to_know = need_to_know
        self._parts = GateParts(records, dispatches, api, trust)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def answer(self, call: JobCall) -> Answer:
        """Airflow's answer, or an answer in its name.

        Raises:
            EdgeError: The call is refused or can't be answered now.
        """
        segments = split_path(call.execution.path)
        self._limits.check_path(segments, call.execution.query)
        # The api-server gets the segments that are checked here, however the path was encoded.
        call = replace(call, execution=replace(call.execution, path=encode_path(segments)))
        held = await self._parts.held(call)
        kind = check(call.execution.method, segments, call.execution.query, held.owner)
        if kind is None:
            return NO_SUCH_PATH
        handling = HANDLING[kind]
        sent = call.execution
        uses_of = partial(uses, sent.method, segments, sent.query, sent.body)
        if not handling.in_turn:
            return await self._answer(handling, held, uses_of)
        _check_request_id(call.request_id)
        # A repeat that overtakes the first call's answer waits for it here.
        lock = self._locks.setdefault(call.job, asyncio.Lock())
        async with lock:
            # Read again after the wait, and before each further try: a job that was given up meanwhile writes no more.
            # One exception remains: a write that was already sent to Airflow and takes effect after the give-up, within
            # milliseconds as a rule, `CALL_TIMEOUT_S` at most. XComs from it are cleared when the next try starts,
            # which is seconds later; a final state is accepted or rejected by Airflow as the dispatch then stands.
            held = await self._parts.held(call)
            if held.record.last_write is not None and held.record.last_write.request_id == call.request_id:
                return replayed(held.record.last_write)
            return await self._answer(handling, held, uses_of)

    async def _answer(
        self, handling: Handling, held: HolderCall, uses_of: Callable[[str | None], tuple[Use, ...]]
    ) -> Answer:
        """Check whether Airflow has made the dispatch, then whether the policies allow what the call uses.

        Args:
            uses_of: What it uses, for a task of this DAG.
        """
        if held.is_to_stop:
            return handling.if_to_stop()
        # A final state may use assets; whose they are does not depend on its DAG.
        used = () if handling.compares else uses_of(None)
        if not used and not handling.compares:
            return await handling.answer(held)
        dispatched = await held.dispatched(for_read=not handling.in_turn)
        if dispatched is None:
            return handling.if_to_stop() if handling.compares else await handling.answer(held)
        if not (used := used or uses_of(dispatched.dag)):
            return await handling.answer(held)
        judged = self._need_to_know.judge(held.record, held.call.worker, dispatched, used)
        answer = await handling.answer(held)
        judged.answered()
        return answer


def _check_request_id(request_id: str) -> None:
    try:
        _REQUEST_ID.validate_python(request_id)
    except ValidationError:
        raise EdgeError(ErrorCode.INVALID_REQUEST, "a write needs an X-Request-Id of 8 to 64 characters") from None
