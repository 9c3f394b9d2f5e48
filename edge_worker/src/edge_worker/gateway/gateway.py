"""The local gateway: all that a task's processes see of the world beyond this machine.

One Unix socket for all jobs, `http://gateway/jobs/<job>/execution/<path of Airflow's Execution API>`.

* Heartbeats are answered here: 204, or Airflow's "stop" answer once the job is to stop. A lost link never ends a task.
* Everything else goes to the relay, path and query untouched, and is held without limit while the link is down. A
  read that fails or times out makes the SDK return a *default value* and the task succeed wrongly; so a read ends only
  in an answer of the Execution API or in a 403, which the SDK turns into an exception.
* A task's rendered fields do not keep it waiting: see `deferred_writes`.
* What a task repeats under one request id is one call. The supervisor of a frozen job does so for as long as it lasts.
* Error bodies are exactly `application/json`: the SDK compares the string.
"""

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aiohttp import web

from edge_schemas.gate.execution_paths import split_path
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_worker.gateway.deferred_writes import DeferredWrites
from edge_worker.gateway.request_dedup import AskedAgain, RequestDedup
from edge_worker.jobs.registry import JobRegistry, LocalJob, StopWish
from edge_worker.log import EventLog, bound
from edge_worker.relay.call_result import CallError, NoAnswer, Refused
from edge_worker.relay.client import ExecutionAnswer, ExecutionCall, RelayClient
from edge_worker.relay.link import Link
from edge_worker.relay.retry import Backoff, Fate, fate_of

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_TARGET_CHARS = 8000
"""Path and query; servers and proxies on the way take no more."""
RETRY_CAP_S = 5.0

_MAX_LINE_BYTES = 1024 * 1024
"""Far above what goes on, so that a request that is too long is refused by us, in the form that the SDK understands."""

_TARGET = re.compile(r"/jobs/([0-9a-f-]{36})/execution/([^?#]*)(?:\?([^#]*))?")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_ANSWER_HEADERS = ("Content-Range", "Airflow-API-Version", "Correlation-Id")
_STOPPING_CODES = frozenset(
    {ErrorCode.NOT_HOLDER, ErrorCode.JOB_ENDED, ErrorCode.WRONG_STATE, ErrorCode.CREDENTIAL_REVOKED}
)
_DROPPING_CODES = frozenset({ErrorCode.NOT_HOLDER, ErrorCode.JOB_ENDED})

log = EventLog("edge_worker.gateway.gateway")


class GaveUp(Exception):
    """A held call has nothing to wait for any more: the job is to stop, or its processes are gone."""


@dataclass(frozen=True)
class _Target:
    job: str
    held: LocalJob | None
    raw_path: str
    segments: tuple[str, ...]
    query: str

    @property
    def is_own_instance(self) -> bool:
        """The path is `task-instances/<the job's task instance>/...`; an auxiliary job has no task instance."""
        task = self.held.job.task if self.held is not None else None
        return task is not None and len(self.segments) == 3 and self.segments[:2] == ("task-instances", task.ti_id)

    def is_some_heartbeat(self, method: str) -> bool:
        return method == "PUT" and self.segments[0] == "task-instances" and self.segments[-1] == "heartbeat"

    def is_heartbeat(self, method: str) -> bool:
        return self.is_own_instance and self.is_some_heartbeat(method)

    def is_final_write(self, method: str) -> bool:
        return method == "PATCH" and self.is_own_instance and self.segments[2] == "state"

    def is_rendered_fields(self, method: str) -> bool:
        return method == "PUT" and self.is_own_instance and self.segments[2] == "rtif"


class Gateway:
    """Answers the tasks.

    Args:
        client: The way to the relay.
        table: The jobs; calls for any other job are refused.
        link: Tells when a held call is worth another try.
        socket: Where to listen.
    """

    def __init__(self, client: RelayClient, table: JobRegistry, link: Link, socket: Path) -> None:
        self._client = client
        self._table = table
        self._link = link
        self._socket = socket
        self._late = DeferredWrites(partial(self._refused, is_read=False))
        self._dedup = RequestDedup()
        self.held_calls = 0
        """How many wait at this moment, after a try that brought no answer."""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listens while inside. A socket file that a killed agent left behind is replaced."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{tail:.*}", self._answer)
        # A write whose task has died meanwhile is still delivered: it may be the task's final state.
        runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=False,
            shutdown_timeout=0.1,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=_MAX_LINE_BYTES,
        )
        await runner.setup()
        try:
            self._socket.unlink(missing_ok=True)
            await web.UnixSite(runner, str(self._socket)).start()
            self._socket.chmod(0o600)
            yield
        finally:
            await self._late.drop_all()
            await runner.cleanup()
            await self._dedup.drop_all()

    async def _answer(self, request: web.Request) -> web.Response:
        """What a request gets. An error in here would make aiohttp answer what becomes a default value."""
        is_read = request.method in {"GET", "HEAD"}
        try:
            return await self._handle(request, is_read=is_read)
        except Exception:
            log.exception("call_fault", method=request.method)
            why = "an error in the edge worker; its own log tells more"
            return _refusal(why) if is_read else _json(500, {"reason": "internal_error", "message": why})

    async def _handle(self, request: web.Request, *, is_read: bool) -> web.Response:
        try:
            target = self._target(request)
        except EdgeError as error:
            return _refusal(str(error))
        held = target.held
        if held is None and target.job in self._table.unread:
            # Nothing ends it meanwhile. A task's process repeats a call after 503.
            is_beat = target.is_some_heartbeat(request.method)
            return web.Response(status=204) if is_beat else _json(503, "the job's folder cannot be read")
        if held is None:
            return _no_longer(is_read=is_read, message="the worker does not know this job")
        if target.is_heartbeat(request.method):
            return _stop_answer(held) if held.is_stopping else web.Response(status=204)
        with bound(job=held.id):
            return await self._forward(request, target, held, is_read=is_read)

    def _target(self, request: web.Request) -> _Target:
        match = _TARGET.fullmatch(request.raw_path)
        if match is None:
            raise EdgeError(ErrorCode.INVALID_REQUEST, "the path is not one of the gateway's")
        if len(request.raw_path) > MAX_TARGET_CHARS:
            raise EdgeError(ErrorCode.INVALID_REQUEST, f"path and query are longer than {MAX_TARGET_CHARS} characters")
        job, raw_path, query = match[1], match[2], match[3] or ""
        return _Target(job, self._table.get(job), raw_path, split_path(raw_path), query)

    async def _forward(self, request: web.Request, target: _Target, held: LocalJob, *, is_read: bool) -> web.Response:
        try:
            call = await _call_of(request, target)
        except web.HTTPRequestEntityTooLarge:
            return _refusal(f"the body is larger than {MAX_BODY_BYTES} bytes")
        try:
            answer = await self._dedup.answer(
                (held.id, call.request_id, call.method, call.raw_path, call.query),
                partial(self._answer_to, target, held, call, is_read=is_read),
            )
        except Refused as error:
            return self._refused(held, error, is_read=is_read)
        except GaveUp as error:
            return _no_longer(is_read=is_read, message=str(error))
        except AskedAgain:
            # Read by nobody; if it were, this is what a task's process repeats a call after.
            return _json(503, "the call was repeated")
        return _pass_on(answer)

    async def _answer_to(
        self, target: _Target, held: LocalJob, call: ExecutionCall, *, is_read: bool
    ) -> ExecutionAnswer:
        """The answer to a call of a task.

        Raises:
            Refused: For good.
            GaveUp: See there.
        """
        if target.is_final_write(call.method):
            return await self._write_final_state(held, call)
        if is_read:
            return await self._until_answered(held, call, is_read=True, is_final=False)
        await self._late.delivered(held)
        if target.is_rendered_fields(call.method):
            delivery = self._until_answered(held, call, is_read=False, is_final=False)
            return await self._late.answer(held, delivery)
        return await self._until_answered(held, call, is_read=False, is_final=False)

    async def _write_final_state(self, held: LocalJob, call: ExecutionCall) -> ExecutionAnswer:
        """While it is under way, and once it was accepted, no stop touches the job."""
        with held.final_write():
            await self._late.delivered(held)
            answer = await self._until_answered(held, call, is_read=False, is_final=True)
            if 200 <= answer.status < 300:
                held.final_state = _state_of(call.body)
                try:
                    held.dir.put_final_state(held.final_state)
                except OSError as error:
                    log.warning("final_state_not_on_disk", error=str(error))
                log.info("final_state_accepted", state=held.final_state)
            return answer

    async def _until_answered(
        self, held: LocalJob, call: ExecutionCall, *, is_read: bool, is_final: bool
    ) -> ExecutionAnswer:
        """Repeats the call, under its one request id, until the Execution API or a final refusal answers it.

        Raises:
            Refused: For good.
            GaveUp: See there. A final state is never given up.
        """
        backoff = Backoff(cap_s=RETRY_CAP_S, slow_s=30)
        began = asyncio.get_running_loop().time()
        is_held = False
        try:
            while True:
                try:
                    answer = await self._client.execution(held.id, call)
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
                    self.held_calls += 1
                    log.info("call_held", method=call.method, request_id=call.request_id, reason=str(failure))
                if not is_final:
                    _check_still_wanted(held)
                await self._link.pause(backoff.next_pause(failure))
        finally:
            self.held_calls -= is_held

    def _refused(self, held: LocalJob, error: Refused, *, is_read: bool) -> web.Response:
        log.warning("call_refused", code=error.code, reason=str(error), request_id=error.problem.request_id)
        if error.code not in _STOPPING_CODES:
            return _refusal(str(error))
        held.want_stop(StopWish(f"the relay refused a call: {error}", drop=error.code in _DROPPING_CODES))
        return _no_longer(is_read=is_read, message=str(error))


async def _call_of(request: web.Request, target: _Target) -> ExecutionCall:
    offered = request.headers.get(routes.REQUEST_ID_HEADER, "")
    return ExecutionCall(
        method=request.method,
        raw_path=target.raw_path,
        query=target.query,
        headers={name: request.headers[name] for name in routes.FORWARDED_HEADERS if name in request.headers},
        body=await request.read(),
        request_id=offered if _REQUEST_ID.fullmatch(offered) else secrets.token_hex(16),
    )


def _check_still_wanted(held: LocalJob) -> None:
    if held.is_stopping:
        raise GaveUp("the job is to stop")
    if held.gone.is_set():
        raise GaveUp("the job's processes are gone")


def _is_temporary(status: int, *, is_read: bool) -> bool:
    """Whether an answer of the Execution API itself is to be asked for again.

    For a read any of these would become a default value in the SDK. A write may have failed for its content (500).
    """
    return status in {502, 503, 504} or (is_read and (status >= 500 or status in {408, 429}))


def _state_of(body: bytes) -> str:
    try:
        state = json.loads(body)["state"]
    except (ValueError, TypeError, KeyError):
        return "unknown"
    return state if isinstance(state, str) else "unknown"


def _pass_on(answer: ExecutionAnswer) -> web.Response:
    """As it came, but without `Refreshed-API-Token` and whatever else is not for a task."""
    headers = {name: answer.headers[name] for name in _ANSWER_HEADERS if name in answer.headers}
    if answer.body or "Content-Type" in answer.headers:
        headers["Content-Type"] = answer.headers.get("Content-Type", "application/json")
    return web.Response(status=answer.status, body=answer.body or None, headers=headers)


def _json(status: int, detail: object) -> web.Response:
    body = json.dumps({"detail": detail}).encode()
    # Not json_response(): it adds a charset, and the SDK then takes the answer for a broken connection.
    return web.Response(status=status, body=body, headers={"Content-Type": "application/json"})


def _stop_answer(held: LocalJob) -> web.Response:
    """Airflow's answer to a heartbeat of a task that should not run: the supervisor ends it."""
    reason = held.stop.reason if held.stop else "the job is to stop"
    return _no_longer(is_read=False, message=reason)


def _no_longer(*, is_read: bool, message: str) -> web.Response:
    """Nothing more is done for this job. A read gets 403: anything else would become a default value."""
    if is_read:
        return _refusal(message)
    return _json(409, {"reason": "not_running", "message": message, "current_state": "failed"})


def _refusal(message: str) -> web.Response:
    return _json(403, {"reason": "forbidden", "message": message})
