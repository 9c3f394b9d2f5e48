"""Decides about one call of a job and passes it on: who holds the job, is it allowed, is the dispatch still wanted.

Each write is remembered with its answer in the job's record, so that a repeat after a lost answer gets the same one
from any keeper: Airflow itself would answer a repeated `up_for_retry` with 404. What Airflow answers once and nobody
else may keep is remembered by this keeper alone.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import orjson
import structlog
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from edge_bridge.keeper.dispatch import DatabaseUnavailable, Dispatches, has_taken
from edge_bridge.keeper.gate.rules import CallKind, check
from edge_bridge.keeper.gate.upstream import Answer, ExecutionApi, ExecutionCall
from edge_bridge.keeper.tokens import speaker
from edge_broker.records import RecordStore
from edge_schemas.gate.execution_paths import split_path
from edge_schemas.life.events import AnswerWrite, BeginFinishing, BeginWrite, ReportUserCode
from edge_schemas.life.holder_calls import check_holder
from edge_schemas.life.model import JobRecord, JobState, WriteAnswer
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.ids import RequestId
from edge_schemas.wire.jobs import TaskIdentity

log = structlog.get_logger(__name__)

MAX_REMEMBERED_BYTES = 8 * 1024
"""A larger answer is not kept with the record: a repeat of that write is passed on again. Airflow bears that for every
write with a large answer, which in effect is `/run`; answers to final states are empty."""
FETCHED_KEPT_S = 120.0
"""Airflow gives a connection test up sooner, by default."""
CLOCKS_DIFFER_S = 10.0
"""The api-server's and the keeper's, at most: more than that and Airflow refuses the keeper's tokens."""
JSON = {"Content-Type": "application/json"}
"""Exactly so: the SDK takes an error body with any other type, a charset included, for a network failure."""

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
_REQUEST_ID: TypeAdapter[str] = TypeAdapter(RequestId)


class _RunBody(BaseModel):
    """What is read of the body of `/run`."""

    model_config = ConfigDict(extra="ignore")

    hostname: str = Field(min_length=1, max_length=1000)
    pid: int


class _StateBody(BaseModel):
    """What is read of the body of `/state`."""

    model_config = ConfigDict(extra="ignore")

    state: str = Field(min_length=1, max_length=50)


@dataclass(frozen=True, slots=True)
class JobCall:
    """A call that a worker makes for a job; the relay's signature on it was right."""

    job: str
    worker: str
    request_id: str
    execution: ExecutionCall


class PassThrough:
    """Answers the calls of jobs.

    Args:
        records: Decide who holds a job; read through the stream leader at each call.
        dispatches: Airflow's database.
        api: Airflow's Execution API.
    """

    def __init__(self, records: RecordStore, dispatches: Dispatches, api: ExecutionApi) -> None:
        self._records = records
        self._dispatches = dispatches
        self._api = api
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._fetched: dict[tuple[str, str], Answer] = {}

    async def answer(self, call: JobCall) -> Answer:
        """The answer to give, Airflow's or one in its name.

        Raises:
            EdgeError: The call is refused or can't be answered now.
        """
        segments = split_path(call.execution.path)
        record = await self._held(call)
        kind = check(call.execution.method, segments, call.execution.query, record.auxiliary or _task(record))
        if kind is CallKind.READ:
            return await self._read(record, call)
        if kind is CallKind.HEARTBEAT:
            return await self._heartbeat(record, call)
        _check_request_id(call.request_id)
        # One of these calls of a job at a time: a repeat that overtakes the first one's answer waits for it here.
        lock = self._locks.setdefault(call.job, asyncio.Lock())
        async with lock:
            # Looked at again after the wait, and before each further try: a job that was given up meanwhile writes no
            # more. What remains is a write that Airflow has already been sent, and takes after the give-up: within
            # milliseconds as a rule, `CALL_TIMEOUT_S` at most. Of XComs the next try clears what is there at its start,
            # which is seconds later; a final state is taken or refused by Airflow as the dispatch then stands.
            record = await self._held(call)
            return await self._write(record, kind, call)

    async def _held(self, call: JobCall) -> JobRecord:
        return check_holder(await self._records.get(call.job), call.worker)

    async def _read(self, record: JobRecord, call: JobCall) -> Answer:
        if _is_to_stop(record):
            # Any other refusal makes the SDK return a default value, and the task go on with it.
            return _in_airflows_form(403, reason="not_running", message="The job is to stop")
        return await self._forward(record, call)

    async def _heartbeat(self, record: JobRecord, call: JobCall) -> Answer:
        if _is_at_its_end(record):
            return Answer(204, b"", {})
        if _is_to_stop(record):
            return _not_running()
        answer = await self._forward(record, call)
        if answer.accepted:
            return answer
        # The refusal may be about the job's own final state, on its way at the same moment.
        now = await self._held(call)
        return Answer(204, b"", {}) if _is_at_its_end(now) else answer

    async def _write(self, record: JobRecord, kind: CallKind, call: JobCall) -> Answer:
        if record.last_write is not None and record.last_write.request_id == call.request_id:
            return _replayed(record.last_write)
        if _is_to_stop(record):
            return _not_running()
        if kind is CallKind.FETCH:
            return await self._fetch(record, call)
        if kind is CallKind.RUN:
            return await self._run(record, call)
        if kind is CallKind.STATE:
            return await self._state(record, call)
        answer = await (self._trigger(call) if kind is CallKind.TRIGGER else self._forward(record, call))
        if record.accepted_state is None:
            await self._remember(call, answer)
        # After the final state the SDK still writes, for example links as XComs: passed on as in any Airflow, but the
        # answer to the final state stays the one that is remembered.
        return answer

    async def _fetch(self, record: JobRecord, call: JobCall) -> Answer:
        """The answer holds a password: it is kept here for a while, for a repeat, and never in the record."""
        repeat = call.job, call.request_id
        if (known := self._fetched.get(repeat)) is not None:
            return known
        answer = await self._forward(record, call)
        if answer.accepted:
            self._fetched[repeat] = answer
            asyncio.get_running_loop().call_later(FETCHED_KEPT_S, self._fetched.pop, repeat)
        return answer

    async def _trigger(self, call: JobCall) -> Answer:
        """Airflow refuses to make a run twice. If its answer to an earlier try was lost, that is no refusal.

        The task would fail for it, or, told to reset a run that is there, clear one that has just begun.
        """
        before, record = await self._records.change(
            call.job, BeginWrite(call.worker, call.request_id, datetime.now(UTC))
        )
        # Each further try comes through here as well.
        answer = await self._api.call(speaker(record), call.execution, tries=1)
        sent = record.open_write
        # Nothing to change: this request was begun before.
        if answer.status == 409 and record is before and sent is not None:
            _, dag_id, run_id = split_path(call.execution.path)
            since = sent.sent_at - timedelta(seconds=CLOCKS_DIFFER_S)
            if await _looked_up(self._dispatches.is_run_queued_since(dag_id, run_id, since)):
                log.info("run_was_triggered", job=call.job, dag=dag_id, run=run_id)
                return Answer(204, b"", {})
        return answer

    async def _run(self, record: JobRecord, call: JobCall) -> Answer:
        _refuse_after_the_end(record)
        body = _parse(_RunBody, call.execution.body)
        if (refusal := await self._unless_dispatched(record)) is not None:
            return refusal
        seen = ReportUserCode(call.worker, body.hostname, body.pid, datetime.now(UTC))
        await self._records.change(call.job, seen)
        answer = await self._forward(record, call)
        await self._remember(call, answer)
        log.info("task_run", job=call.job, worker=call.worker, status=answer.status)
        return answer

    async def _state(self, record: JobRecord, call: JobCall) -> Answer:
        _refuse_after_the_end(record)
        state = _parse(_StateBody, call.execution.body).state
        answer = await self._unless_dispatched(record)
        sent = record.finishing or answer is None
        if answer is None:
            await self._records.change(call.job, BeginFinishing(call.worker))
            answer = await self._forward(record, call)
        # What was sent, by now or in a call whose answer nobody saw, may have been taken the first time.
        if sent and answer.status in {404, 409} and await self._has_taken(record, state):
            log.info("task_state_was_taken", job=call.job, state=state, status=answer.status)
            answer = Answer(204, b"", {})
        await self._remember(call, answer, state=state if answer.accepted else None)
        log.info("task_state", job=call.job, worker=call.worker, state=state, status=answer.status)
        return answer

    async def _unless_dispatched(self, record: JobRecord) -> Answer | None:
        """Airflow's refusal, if this job is no longer the task instance's current dispatch."""
        row = await _looked_up(self._dispatches.one(_task(record).ti_id))
        if row is not None and row.dispatch == record.id:
            return None
        return _in_airflows_form(
            409,
            reason="invalid_state",
            message="This dispatch is not the task instance's current one",
            previous_state=None if row is None else row.state,
        )

    async def _has_taken(self, record: JobRecord, state: str) -> bool:
        return has_taken(record, state, await _looked_up(self._dispatches.by_name(_task(record))))

    async def _forward(self, record: JobRecord, call: JobCall) -> Answer:
        return await self._api.call(speaker(record), call.execution, before_retry=lambda: self._held(call))

    async def _remember(self, call: JobCall, answer: Answer, *, state: str | None = None) -> None:
        kept = answer.body
        if len(kept) > MAX_REMEMBERED_BYTES:
            if state is None and not call.execution.path.endswith("/state"):
                return
            kept = b""
        written = WriteAnswer(request_id=call.request_id, status=answer.status, body=kept.decode(errors="replace"))
        await self._records.change(call.job, AnswerWrite(call.worker, written, state))


async def _looked_up(look: Awaitable[T]) -> T:
    try:
        return await look
    except DatabaseUnavailable as error:
        log.warning("database_unavailable", error=str(error))
        raise EdgeError(ErrorCode.GATE_UNAVAILABLE, "Airflow's database does not answer", retry_after_s=2.0) from None


def _task(record: JobRecord) -> TaskIdentity:
    assert record.task is not None  # noqa: S101  # no rule of an auxiliary job leads here
    return record.task


def _is_at_its_end(record: JobRecord) -> bool:
    return record.finishing or record.accepted_state is not None


def _is_to_stop(record: JobRecord) -> bool:
    return record.state is JobState.STOPPING and not _is_at_its_end(record)


def _refuse_after_the_end(record: JobRecord) -> None:
    if record.accepted_state is not None:
        raise EdgeError(ErrorCode.WRONG_STATE, "a final state was already accepted")


def _check_request_id(request_id: str) -> None:
    try:
        _REQUEST_ID.validate_python(request_id)
    except ValidationError:
        raise EdgeError(ErrorCode.INVALID_REQUEST, "a write needs an X-Request-Id of 8 to 64 characters") from None


def _parse(model: type[M], body: bytes) -> M:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, e["loc"])) or "body" for e in error.errors(include_input=False))
        raise EdgeError(ErrorCode.INVALID_REQUEST, f"missing or malformed: {fields}") from None


def _replayed(write: WriteAnswer) -> Answer:
    return Answer(write.status, write.body.encode(), JSON if write.body else {})


def _not_running() -> Answer:
    return _in_airflows_form(409, reason="not_running", message="The job is to stop", current_state=None)


def _in_airflows_form(status: int, **detail: Any) -> Answer:
    return Answer(status, orjson.dumps({"detail": detail}), JSON)
