"""The calls of tasks on their way to the relay, each held until there is an answer that may reach the task."""

import asyncio
import json
from functools import partial

from aiohttp import web

from edge_schemas.wire.errors import ErrorCode
from edge_worker.gateway.answers import no_longer, refusal
from edge_worker.gateway.deferred_writes import DeferredWrites
from edge_worker.gateway.target import Target
from edge_worker.jobs.driver import JobDriver
from edge_worker.jobs.events import FinalWriteBegun, FinalWriteEnded, StopWanted, StopWish
from edge_worker.jobs.machine import DROPPING_CODES
from edge_worker.log import EventLog
from edge_worker.relay.call_result import CallError, NoAnswer, Refused
from edge_worker.relay.client import ExecutionAnswer, ExecutionCall, RelayClient
from edge_worker.relay.link import Link
from edge_worker.relay.retry import Backoff, Fate, fate_of

RETRY_CAP_S = 5.0

_STOPPING_CODES = DROPPING_CODES | {ErrorCode.WRONG_STATE, ErrorCode.CREDENTIAL_REVOKED}

log = EventLog("edge_worker.gateway.held_calls")


class NotWanted(Exception):
    """A held call has nothing to wait for any more: the job is to stop, or its processes are gone."""


class HeldCalls:
    """Delivers the calls of tasks.

    Args:
        client: The way to the relay.
        link: Decides when a held call is tried again.
    """

    def __init__(self, client: RelayClient, link: Link) -> None:
        self._client = client
        self._link = link
        self._deferred = DeferredWrites(partial(self.refused, is_read=False))
        self.waiting = 0
        """How many wait at this moment, after a try that brought no answer."""

    async def deliver(
        self, target: Target, driver: JobDriver, call: ExecutionCall, *, is_read: bool
    ) -> ExecutionAnswer:
        """The answer to a call of a task.

        Raises:
            Refused: For good.
            NotWanted: The job is to stop, or its processes are gone.
        """
        if target.is_final_write(call.method):
            return await self._write_final_state(driver, call)
        if is_read:
            return await self._until_answered(driver, call, is_read=True, is_final=False)
        await self._deferred.delivered(driver)
        if target.is_rendered_fields(call.method):
            delivery = self._until_answered(driver, call, is_read=False, is_final=False)
            return await self._deferred.answer(driver, delivery)
        return await self._until_answered(driver, call, is_read=False, is_final=False)

    def refused(self, driver: JobDriver, error: Refused, *, is_read: bool) -> web.Response:
        """The answer to a call that was refused for good, which may mean that the job is to stop."""
        log.warning("call_refused", code=error.code, reason=str(error), request_id=error.problem.request_id)
        if error.code not in _STOPPING_CODES:
            return refusal(str(error))
        wish = StopWish(f"the relay refused a call: {error}", drop=error.code in DROPPING_CODES)
        driver.post(StopWanted(wish))
        return no_longer(is_read=is_read, message=str(error))

    async def drop_all(self) -> None:
        """The agent leaves."""
        await self._deferred.drop_all()

    async def _write_final_state(self, driver: JobDriver, call: ExecutionCall) -> ExecutionAnswer:
        """While it is under way, and once it was accepted, no stop touches the job.

        A cancelled call has not ended: when the agent leaves, the task repeats the call to the next agent.
        """
        driver.post(FinalWriteBegun())
        accepted: str | None = None
        try:
            await self._deferred.delivered(driver)
            answer = await self._until_answered(driver, call, is_read=False, is_final=True)
            if 200 <= answer.status < 300:
                accepted = _keep_final_state(driver, call.body)
        except Exception:
            driver.post(FinalWriteEnded())
            raise
        driver.post(FinalWriteEnded(accepted))
        return answer

    async def _until_answered(
        self, driver: JobDriver, call: ExecutionCall, *, is_read: bool, is_final: bool
    ) -> ExecutionAnswer:
        """Repeats the call, under its one request id, until the Execution API or a final refusal answers it.

        Raises:
            Refused: For good.
            NotWanted: The job is to stop, or its processes are gone. Never raised for a final state.
        """
        backoff = Backoff(cap_s=RETRY_CAP_S, slow_s=30)
        began = asyncio.get_running_loop().time()
        is_held = False
        try:
            while True:
                try:
                    answer = await self._client.execution(driver.id, call)
                    failure: CallError = NoAnswer(f"the Execution API answered {answer.status}")
                    if not _is_temporary(answer.status, is_read=is_read):
                        if is_held:
                            log.info("call_delivered", after_s=round(asyncio.get_running_loop().time() - began, 1))
                        return answer
                except CallError as error:
                    if fate_of(error) is Fate.FINAL:
                        raise
                    failure = error
                if not is_held:
                    is_held = True
                    self.waiting += 1
                    log.info("call_held", method=call.method, request_id=call.request_id, reason=str(failure))
                if not is_final:
                    _check_still_wanted(driver)
                await self._link.pause(backoff.next_pause(failure))
        finally:
            self.waiting -= is_held


def _keep_final_state(driver: JobDriver, body: bytes) -> str:
    """Writes the accepted state down before anything follows from it."""
    state = _state_of(body)
    try:
        driver.dir.put_final_state(state)
    except OSError as error:
        log.warning("final_state_not_on_disk", error=str(error))
    log.info("final_state_accepted", state=state)
    return state


def _state_of(body: bytes) -> str:
    try:
        state = json.loads(body)["state"]
    except (ValueError, TypeError, KeyError):
        return "unknown"
    return state if isinstance(state, str) else "unknown"


def _check_still_wanted(driver: JobDriver) -> None:
    if driver.now.is_stopping:
        raise NotWanted("the job is to stop")
    if driver.is_gone:
        raise NotWanted("the job's processes are gone")


def _is_temporary(status: int, *, is_read: bool) -> bool:
    """Whether an answer of the Execution API itself is to be asked for again.

    For a read any of these would become a default value in the SDK. A write may have failed for its content (500).
    """
    return status in {502, 503, 504} or (is_read and (status >= 500 or status in {408, 429}))
