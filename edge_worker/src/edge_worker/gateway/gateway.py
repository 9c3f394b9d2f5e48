"""The local gateway: all that a task's processes see of the world beyond this machine.

One Unix socket for all jobs, `http://gateway/jobs/<job>/execution/<path of Airflow's Execution API>`.

* Heartbeats are answered here: 204, or Airflow's "stop" answer once the job is to stop. A lost link never ends a task.
* Everything else goes to the relay, whatever path and query, and is held without limit while the link is down. A
  read that fails or times out makes the SDK return a *default value* and the task succeed wrongly; so a read ends only
  in an answer of the Execution API or in a 403, which the SDK turns into an exception.
* A task's rendered fields do not keep it waiting: see `deferred_writes`.
* What a task repeats under one request id is one call. The supervisor of a frozen job does so for as long as it lasts.
* Error bodies are exactly `application/json`: the SDK compares the string.
"""

import re
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from aiohttp import web

from edge_schemas.gate.limits import DEFAULT_LIMITS, CallLimits
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.jobs import Job
from edge_worker.gateway.answers import json_answer, no_longer, pass_on, refusal
from edge_worker.gateway.held_calls import CallFailed, HeldCalls, NotWanted
from edge_worker.gateway.request_dedup import AskedAgain, RequestDedup
from edge_worker.gateway.target import Target, target_of
from edge_worker.jobs.driver import JobDriver
from edge_worker.jobs.registry import JobRegistry
from edge_worker.log import EventLog, bound
from edge_worker.relay.client import ExecutionCall, RelayClient
from edge_worker.relay.link import Link

_MAX_LINE_BYTES = 8 * 1024 * 1024
"""Far above the limits in use: the gateway itself refuses what is too long, in a form that the SDK understands."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")

log = EventLog("edge_worker.gateway.gateway")


class Gateway:
    """Answers the tasks.

    Args:
        client: The way to the relay.
        table: The jobs; calls for any other job are refused.
        link: Decides when a held call is tried again.
        socket: Where to listen.
        limits: Of calls.
        on_user_code: Called with a job whose user code may begin, before the task learns it.
    """

    def __init__(
        self,
        client: RelayClient,
        table: JobRegistry,
        link: Link,
        socket: Path,
        limits: CallLimits = DEFAULT_LIMITS,
        *,
        on_user_code: Callable[[Job], None] = lambda _: None,
    ) -> None:
        self._on_user_code = on_user_code
        self._table = table
        self._limits = limits
        self._socket = socket
        self._calls = HeldCalls(client, link)
        self._dedup = RequestDedup()

    @property
    def held_calls(self) -> int:
        """How many calls wait at this moment, after a try that brought no answer."""
        return self._calls.waiting

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listens while inside. A socket file that a killed agent left behind is replaced."""
        app = web.Application(client_max_size=self._limits.max_call_bytes)
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
            await self._calls.drop_all()
            await runner.cleanup()
            await self._dedup.drop_all()

    async def _answer(self, request: web.Request) -> web.Response:
        """What a request gets. An error in here would make aiohttp answer what becomes a default value."""
        is_read = request.method in {"GET", "HEAD"}
        try:
            return await self._handle(request, is_read=is_read)
        except Exception:
            log.exception("call_fault", method=request.method)
            why = "an error in the edge worker; its own log has the details"
            return refusal(why) if is_read else json_answer(500, {"reason": "internal_error", "message": why})

    async def _handle(self, request: web.Request, *, is_read: bool) -> web.Response:
        try:
            target = target_of(request.raw_path, self._table, self._limits)
        except EdgeError as error:
            return json_answer(404, "Not Found") if error.code is ErrorCode.NOT_FOUND else refusal(str(error))
        driver = target.driver
        if driver is None and target.job in self._table.unread:
            # Nothing ends it meanwhile. A task's process repeats a call after 503.
            is_beat = target.is_some_heartbeat(request.method)
            return web.Response(status=204) if is_beat else json_answer(503, "the job's folder cannot be read")
        if driver is None:
            return no_longer(is_read=is_read, message="the worker does not know this job")
        if target.is_heartbeat(request.method):
            return _beat(driver)
        with bound(job=driver.id):
            return await self._forward(request, target, driver, is_read=is_read)

    async def _forward(self, request: web.Request, target: Target, driver: JobDriver, *, is_read: bool) -> web.Response:
        try:
            call = await _call_of(request, target)
        except web.HTTPRequestEntityTooLarge:
            return refusal(str(self._limits.body_too_large()))
        try:
            answer = await self._dedup.answer(
                (driver.id, call.request_id, call.method, call.raw_path, call.query),
                partial(self._calls.deliver, driver, call, target.route(call.method)),
            )
        except CallFailed as error:
            return no_longer(is_read=is_read, message=str(error)) if error.stops else refusal(str(error))
        except NotWanted as error:
            return no_longer(is_read=is_read, message=str(error))
        except AskedAgain:
            # No process reads this answer. If one did, it would repeat the call after a 503.
            return json_answer(503, "the call was repeated")
        if 200 <= answer.status < 300 and target.begins_user_code(request.method):
            self._on_user_code(driver.job)
        return pass_on(answer)


async def _call_of(request: web.Request, target: Target) -> ExecutionCall:
    offered = request.headers.get(routes.REQUEST_ID_HEADER, "")
    return ExecutionCall(
        method=request.method,
        raw_path=target.path,
        query=target.query,
        headers={name: request.headers[name] for name in routes.FORWARDED_HEADERS if name in request.headers},
        body=await request.read(),
        request_id=offered if _REQUEST_ID.fullmatch(offered) else secrets.token_hex(16),
    )


def _beat(driver: JobDriver) -> web.Response:
    """The answer to a heartbeat."""
    if not driver.now.is_stopping:
        return web.Response(status=204)
    return no_longer(is_read=False, message=driver.now.stop.reason if driver.now.stop else "the job is to stop")
