"""How each kind of call is answered: one function for each, and one table. `rules` decides the kind of a call.

The functions are called with the current record of the job. Before, `passthrough` has checked that the worker holds the
job, that the call is allowed, and that the job is not to stop.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType

import structlog
from pydantic import BaseModel, ConfigDict, Field

from edge_bridge.keeper.dispatch import has_accepted, is_current
from edge_bridge.keeper.gate.answers import NO_CONTENT, not_dispatched, stop_read, stop_write
from edge_bridge.keeper.gate.holder_call import HolderCall, from_database
from edge_bridge.keeper.gate.repeats import REPEATS, Repeat
from edge_bridge.keeper.gate.rules import CallKind
from edge_bridge.keeper.gate.upstream import Answer
from edge_schemas.life.events import BeginFinishing, BeginWrite, ReportUserCode
from edge_schemas.life.model import JobRecord, OpenWrite
from edge_schemas.wire.errors import EdgeError, ErrorCode

log = structlog.get_logger(__name__)

CONFLICT = 409

MAX_PID = 2**31 - 1
"""Of any kernel. The keeper sends it with each heartbeat, as a number of 64 bits at most."""


class _RunBody(BaseModel):
    """What is read of the body of `/run`."""

    model_config = ConfigDict(extra="ignore")

    hostname: str = Field(min_length=1, max_length=1000)
    pid: int = Field(ge=0, le=MAX_PID)


class _StateBody(BaseModel):
    """What is read of the body of `/state`."""

    model_config = ConfigDict(extra="ignore")

    state: str = Field(min_length=1, max_length=50)


async def read(held: HolderCall) -> Answer:
    """Forward a read."""
    return await held.forward()


async def heartbeat(held: HolderCall) -> Answer:
    """Forward a heartbeat, unless the job's final state is on its way or accepted: then Airflow would reject it."""
    if held.is_at_its_end:
        return NO_CONTENT
    answer = await held.forward()
    if answer.accepted:
        return answer
    # The rejection may be caused by the job's own final state, sent at the same moment.
    return NO_CONTENT if (await held.read_again()).is_at_its_end else answer


async def run(held: HolderCall) -> Answer:
    """Forward the start of the task, if this job is the current dispatch; the record notes that user code runs."""
    _require_no_final_state(held.record)
    body = held.parse_body(_RunBody)
    if not is_current(held.record, row := await held.current_row()):
        return not_dispatched(row)
    await held.change_record(ReportUserCode(held.call.worker, body.hostname, body.pid, datetime.now(UTC)))
    answer = await held.forward()
    await held.remember(answer)
    log.info("task_run", job=held.call.job, worker=held.call.worker, status=answer.status)
    return answer


async def final_state(held: HolderCall) -> Answer:
    """Forward the task's final state, if this job is the current dispatch, and remember it once it is accepted.

    A state that was sent before, in a call whose answer was lost, may have been accepted then: Airflow rejects the
    repeat, and the task instance shows it.
    """
    _require_no_final_state(held.record)
    state = held.parse_body(_StateBody).state
    row = await held.current_row()
    may_be_accepted = held.record.finishing
    if is_current(held.record, row):
        await held.change_record(BeginFinishing(held.call.worker))
        answer = await held.forward()
        may_be_accepted = True
    else:
        answer = not_dispatched(row)
    if may_be_accepted and answer.status in {404, 409}:
        row = await from_database(held.parts.dispatches.by_name(held.task))
        if has_accepted(held.record, state, row):
            log.info("task_state_was_accepted", job=held.call.job, state=state, status=answer.status)
            answer = NO_CONTENT
    await held.remember(answer, final_state=state)
    log.info("task_state", job=held.call.job, worker=held.call.worker, state=state, status=answer.status)
    return answer


async def write(held: HolderCall) -> Answer:
    """Forward a write that Airflow carries out again, and answers in the same way, if it is repeated."""
    answer = await held.forward()
    await _remember_before_the_end(held, answer)
    return answer


async def write_once(repeat: Repeat, held: HolderCall) -> Answer:
    """Forward a write that Airflow answers differently the second time; a repeat after a lost answer is no second one.

    The record notes the write before it is sent. So any keeper recognises a repeat, and answers it by what Airflow
    holds. Nothing else changes an answer of Airflow: a first try's rejection stays a rejection.
    """
    begun, is_repeat = await _begin(held, repeat)

    async def before_retry() -> Answer | None:
        nonlocal is_repeat
        is_repeat = True
        return await _done_before(held, repeat, begun)

    answer = await before_retry() if is_repeat else None
    if answer is None:
        answer = await held.forward(before_retry=before_retry)
        if answer.status == CONFLICT and is_repeat:
            # The earlier try was still being carried out when this one was sent.
            answer = await _done_before(held, repeat, begun) or answer
    if repeat.keep_answer:
        await _remember_before_the_end(held, answer)
    return answer


@dataclass(frozen=True, slots=True)
class Handling:
    """How a kind of call is answered.

    Attributes:
        answer: Answers it.
        if_to_stop: Answers it while the job is to stop and has not reported its final state.
        in_turn: One such call of a job at a time, each with a request id; a repeat of the call that was remembered last
            gets the same answer.
        compares: It is answered only if Airflow has made this dispatch; see `CurrentDispatch`. A run and a final state
            compare it themselves, as their refusal names the task's state, and Airflow compares a heartbeat's process.
    """

    answer: Callable[[HolderCall], Awaitable[Answer]]
    if_to_stop: Callable[[], Answer] = stop_write
    in_turn: bool = True
    compares: bool = True


HANDLING: Mapping[CallKind, Handling] = MappingProxyType(
    {
        CallKind.READ: Handling(read, if_to_stop=stop_read, in_turn=False),
        CallKind.HEARTBEAT: Handling(heartbeat, in_turn=False, compares=False),
        CallKind.RUN: Handling(run, compares=False),
        CallKind.STATE: Handling(final_state, compares=False),
        CallKind.WRITE: Handling(write),
        **{kind: Handling(partial(write_once, repeat)) for kind, repeat in REPEATS.items()},
    }
)
"""Every kind of call."""


async def _begin(held: HolderCall, repeat: Repeat) -> tuple[OpenWrite, bool]:
    """The write as the record notes it, and whether it was begun before."""
    known = held.record.open_write
    if known is not None and known.request_id == held.call.request_id:
        return known, True
    noted = await repeat.note(held) if repeat.note is not None else None
    before, record = await held.change_record(
        BeginWrite(held.call.worker, held.call.request_id, datetime.now(UTC), noted)
    )
    assert record.open_write is not None  # noqa: S101  # the event sets it
    return record.open_write, record is before


async def _done_before(held: HolderCall, repeat: Repeat, begun: OpenWrite) -> Answer | None:
    answer = await repeat.done(held, begun)
    if answer is not None:
        log.info("write_had_taken_effect", job=held.call.job, method=held.call.execution.method, status=answer.status)
    return answer


async def _remember_before_the_end(held: HolderCall, answer: Answer) -> None:
    """The answer to the final state stays the remembered one: the SDK still writes after it, for example links."""
    if held.record.accepted_state is None:
        await held.remember(answer)


def _require_no_final_state(record: JobRecord) -> None:
    if record.accepted_state is not None:
        raise EdgeError(ErrorCode.WRONG_STATE, "a final state was already accepted")
