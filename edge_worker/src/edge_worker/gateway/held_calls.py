"""The calls of tasks on their way to the relay, each held until `fates` says that it is answered, or that it fails."""

import asyncio
import json
from collections import Counter

from edge_worker.gateway.deferred_writes import DeferredWrites
from edge_worker.gateway.fates import Fate, Handed, Outcome, Route, Rule, rule_for
from edge_worker.gateway.hold_notice import HoldNotice, name_of
from edge_worker.jobs.driver import JobDriver
from edge_worker.jobs.events import FinalWriteBegun, FinalWriteEnded, StopWanted, StopWish
from edge_worker.jobs.machine import DROPPING_CODES
from edge_worker.jobs.process_actions import log_to_task
from edge_worker.log import EventLog
from edge_worker.relay.call_result import CallError, NoAnswer, Refused
from edge_worker.relay.client import ExecutionAnswer, ExecutionCall, RelayClient
from edge_worker.relay.link import Link
from edge_worker.relay.retry import Backoff

RETRY_CAP_S = 5.0
FAILURE_PAUSE_S = 1.0
"""Before the second try of a call at which the api-server failed. With the pauses doubled each time, five tries take
8 to 15 s, as those of Airflow's own client do."""
_QUOTED_BYTES = 500

log = EventLog("edge_worker.gateway.held_calls")


class CallFailed(Exception):
    """A call has failed for good.

    Attributes:
        stops: The job is to stop.
    """

    def __init__(self, reason: str, *, stops: bool) -> None:
        super().__init__(reason)
        self.stops = stops


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
        self._deferred = DeferredWrites()
        self.waiting = 0
        """How many wait at this moment, after a try that brought no answer."""

    async def deliver(self, driver: JobDriver, call: ExecutionCall, route: Route) -> ExecutionAnswer:
        """The answer to a call of a task.

        Raises:
            CallFailed: For good.
            NotWanted: The job is to stop, or its processes are gone.
        """
        if route is Route.FINAL_STATE:
            return await self._write_final_state(driver, call)
        if route.is_read:
            return await self._until_answered(driver, call, route)
        await self._deferred.delivered(driver)
        if route is Route.RENDERED_FIELDS:
            return await self._deferred.answer(driver, self._until_answered(driver, call, route))
        return await self._until_answered(driver, call, route)

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
            answer = await self._until_answered(driver, call, Route.FINAL_STATE)
            if 200 <= answer.status < 300:
                accepted = _keep_final_state(driver, call.body)
        except Exception:
            driver.post(FinalWriteEnded())
            raise
        driver.post(FinalWriteEnded(accepted))
        return answer

    async def _until_answered(self, driver: JobDriver, call: ExecutionCall, route: Route) -> ExecutionAnswer:
        """Repeats the call, under its one request id, until it is answered or has failed for good.

        Raises:
            CallFailed: For good, and the answer must not reach the task.
            NotWanted: The job is to stop, or its processes are gone. Never raised for a final state.
        """
        with HoldNotice(driver, call) as notice:
            outcome, rule = await self._until_decided(driver, call, route, notice)
            if rule.fate is Fate.FAILED:
                _report_failure(driver, call, outcome, rule)
            if rule.handed is Handed.ANSWER and isinstance(outcome, ExecutionAnswer):
                return outcome
            raise CallFailed(_for_task(outcome), stops=rule.handed is Handed.STOP)

    async def _until_decided(
        self, driver: JobDriver, call: ExecutionCall, route: Route, notice: HoldNotice
    ) -> tuple[Outcome, Rule]:
        pauses, failure_pauses = Backoff(cap_s=RETRY_CAP_S, slow_s=30), Backoff(first_s=FAILURE_PAUSE_S, cap_s=90)
        began = asyncio.get_running_loop().time()
        outcomes: Counter[Rule] = Counter()
        is_held = False
        try:
            while True:
                outcome = await self._try(driver, call)
                rule = rule_for(outcome, route)
                outcomes[rule] += 1
                if rule.fate is not Fate.HELD and outcomes[rule] >= rule.tries:
                    if is_held and rule.fate is Fate.ANSWERED:
                        log.info("call_delivered", after_s=round(asyncio.get_running_loop().time() - began, 1))
                    return outcome, rule
                failure = _as_error(outcome)
                notice.failed(_for_task(outcome))
                if not is_held:
                    is_held = True
                    self.waiting += 1
                    log.info("call_held", method=call.method, request_id=call.request_id, reason=str(failure))
                if route is not Route.FINAL_STATE:
                    _check_still_wanted(driver)
                backoff = failure_pauses if isinstance(outcome, ExecutionAnswer) else pauses
                await self._link.pause(backoff.next_pause(failure))
        finally:
            self.waiting -= is_held

    async def _try(self, driver: JobDriver, call: ExecutionCall) -> Outcome:
        try:
            return await self._client.execution(driver.id, call)
        except CallError as error:
            return error


def _as_error(outcome: Outcome) -> CallError:
    """The outcome as the reason to repeat the call, or to end it."""
    if isinstance(outcome, CallError):
        return outcome
    return NoAnswer(f"Airflow's api-server answered with status {outcome.status}", status=outcome.status)


def _for_task(outcome: Outcome) -> str:
    """The same for the task itself, with what the api-server said. The agent's log must not have that."""
    if isinstance(outcome, CallError):
        return str(outcome)
    return f"{_as_error(outcome)}: {outcome.body[:_QUOTED_BYTES].decode(errors='replace')}"


def _report_failure(driver: JobDriver, call: ExecutionCall, outcome: Outcome, rule: Rule) -> None:
    """Logs a call that has failed for good, also to the task's log, and stops a job that may not continue."""
    reason = str(_as_error(outcome))
    if isinstance(outcome, Refused):
        log.warning("call_refused", code=outcome.code, reason=reason, request_id=outcome.problem.request_id)
    else:
        log.warning("call_failed", method=call.method, request_id=call.request_id, reason=reason, tries=rule.tries)
    times = "" if rule.tries == 1 else f", {rule.tries} times"
    log_to_task(driver, f"Edge worker: {name_of(call)} failed for good ({rule.origin}{times}): {_for_task(outcome)}")
    if isinstance(outcome, Refused) and rule.handed is Handed.STOP:
        drop = outcome.code in DROPPING_CODES
        driver.post(StopWanted(StopWish(f"the relay refused a call: {reason}", drop=drop)))


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
