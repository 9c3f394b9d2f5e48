"""The gate's HTTP side: checks that a relay signed the call, and signs the answer. Internal, never exposed.

One route handles all calls of jobs; `passthrough` decides what is allowed. Another route returns facts about the
centre. The answer to a call with a wrong signature is not signed: without the secret nothing can be signed by the gate.
"""

import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import orjson
import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, TypeAdapter, ValidationError

from edge_bridge.keeper.gate.centre import CentreView
from edge_bridge.keeper.gate.holder_call import JobCall
from edge_bridge.keeper.gate.passthrough import PassThrough
from edge_bridge.keeper.gate.streamed.bodies import signed_at_end
from edge_bridge.keeper.gate.streamed.sending import LARGE_BODY_BYTES, send
from edge_bridge.keeper.gate.upstream import Answer, ExecutionCall
from edge_bridge.keeper.metrics import KeeperMetrics
from edge_bridge.keeper.why.task_answers import TaskAnswers
from edge_schemas.gate.auth import (
    SIGNATURE_HEADER,
    SIGNED_AT_END,
    SIGNED_AT_END_HEADER,
    GateCall,
    check_call,
    sign_answer,
)
from edge_schemas.gate.limits import DEFAULT_LIMITS, CallLimits
from edge_schemas.why.task_query import TaskQuery
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.ids import JobId
from edge_schemas.wire.routes import (
    EXECUTION_ORIGIN,
    FORWARDED_HEADERS,
    GATE_CENTRE,
    GATE_EXECUTION,
    GATE_ORIGIN,
    GATE_WHY,
    HEALTHZ,
    METRICS,
    ORIGIN_HEADER,
    PROBLEM_TYPE,
    REQUEST_ID_HEADER,
    WORKER_HEADER,
)
from edge_service.body_memory import BodyAccount, BodyMemory, Memory
from edge_service.body_progress import BodyStalled, BodyTooLarge, read_body
from edge_service.threads import hashed

log = structlog.get_logger(__name__)

_JOB_ID: TypeAdapter[str] = TypeAdapter(JobId)

Health = Callable[[], dict[str, object]]
"""The content of `/healthz`; `ok` decides between 200 and 503."""
_AnswerTo = Callable[[web.Request, GateCall, Memory], Awaitable[Answer]]


def build_app(
    key: bytes,
    calls: PassThrough,
    centre: CentreView,
    health: Health,
    *,
    metrics: KeeperMetrics,
    memory: BodyMemory,
    why: TaskAnswers | None = None,
    limits: CallLimits = DEFAULT_LIMITS,
    clock: Callable[[], float] = time.time,
) -> web.Application:
    """The gate as an application.

    Args:
        key: The secret shared with the relays.
        calls: Answers the calls of jobs.
        centre: What workers may know of Airflow.
        health: For `/healthz`.
        metrics: Count calls; their registry is served at `/metrics`.
        memory: For the bodies of calls and answers.
        why: Answers why a task instance has no job; without it there is no such route.
        limits: Of calls.
        clock: Unix time; signatures are bound to it.
    """
    gate = _Gate(key, calls, centre, health, metrics=metrics, memory=memory, limits=limits, clock=clock)
    app = web.Application()
    app.router.add_get(HEALTHZ, gate.healthz)
    app.router.add_get(METRICS, gate.metrics)
    app.router.add_get(GATE_CENTRE, gate.centre)
    if why is not None:
        app.router.add_get(GATE_WHY, gate.why(why))
    app.router.add_route("*", GATE_EXECUTION.replace("{path}", r"{path:[\s\S]*}"), gate.execution)
    return app


class _Gate:
    def __init__(
        self,
        key: bytes,
        calls: PassThrough,
        centre: CentreView,
        health: Health,
        *,
        metrics: KeeperMetrics,
        memory: BodyMemory,
        limits: CallLimits,
        clock: Callable[[], float],
    ) -> None:
        self._key = key
        self._calls = calls
        self._centre = centre
        self._health = health
        self._metrics = metrics
        self._memory = memory
        self._limits = limits
        self._clock = clock

    async def healthz(self, _request: web.Request) -> web.Response:
        """Whether calls can be answered and Airflow is being watched."""
        health = self._health()
        return web.json_response(health, status=200 if health["ok"] else 503)

    async def metrics(self, _request: web.Request) -> web.Response:
        """The keeper's metrics, for Prometheus."""
        body = generate_latest(self._metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def execution(self, request: web.Request) -> web.StreamResponse:
        """A call of the Execution API for a job."""
        began = time.monotonic()
        # A large answer is still arriving while it is sent: its connection to the api-server is closed afterwards.
        with self._account(request) as memory, ExitStack() as passing:
            answer = await self._signed(request, partial(self._execution, passing), memory)
            path, _ = _execution_path(request.raw_path, request.match_info["job"])
            self._metrics.gate_answered(path or "", answer.status, time.monotonic() - began)
            return await _send(request, answer)

    async def centre(self, request: web.Request) -> web.StreamResponse:
        """What workers may know of the centre."""
        with self._account(request) as memory:
            return await _send(request, await self._signed(request, self._facts, memory))

    def why(self, answers: TaskAnswers) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Why a task instance has no job."""

        async def findings(request: web.Request, _signed: GateCall, _memory: Memory) -> Answer:
            try:
                query = TaskQuery.model_validate(dict(request.query))
            except ValidationError:
                raise EdgeError(ErrorCode.INVALID_REQUEST, "the query names no task instance") from None
            return _json(await answers.findings(query))

        async def handle(request: web.Request) -> web.StreamResponse:
            with self._account(request) as memory:
                return await _send(request, await self._signed(request, findings, memory))

        return handle

    def _account(self, request: web.Request) -> BodyAccount:
        """Counts the bodies of a call and its answer, until the relay has received the answer."""
        return self._memory.account(request.headers.get(WORKER_HEADER, ""), large_from=LARGE_BODY_BYTES)

    async def _signed(self, request: web.Request, answer_to: _AnswerTo, memory: Memory) -> Answer:
        """The signed answer to a call that a relay signed; to any other call an answer without a signature."""
        worker = request.headers.get(WORKER_HEADER, "")
        request_id = request.headers.get(REQUEST_ID_HEADER, "")
        try:
            body = await read_body(request.content, limit=self._limits.max_call_bytes, on_bytes=memory.add)
        except BodyTooLarge:
            return _problem(self._limits.body_too_large(), request_id)
        except EdgeError as no_memory:
            # Not signed, as the body is not checked: the relay calls the next keeper, which may have memory.
            log.info("gate_refused", job=request.match_info.get("job"), code=no_memory.code, detail=no_memory.detail)
            return _problem(no_memory, request_id)
        except BodyStalled as stalled:
            raise web.HTTPRequestTimeout(text=str(stalled)) from None
        signed = GateCall(request.method, request.raw_path, worker, request_id, body)
        signature = request.headers.get(SIGNATURE_HEADER, "")
        nonce = await hashed(partial(check_call, self._key, signed, signature, now=self._clock()), len(body))
        if nonce is None:
            log.warning("gate_signature_refused", remote=request.remote)
            error = EdgeError(ErrorCode.UNAUTHENTICATED, "the call has no recent signature with this gate's secret")
            return _problem(error, request_id)
        with structlog.contextvars.bound_contextvars(request_id=request_id, worker=worker):
            answer = await _answered(request, signed, answer_to, memory)
        if answer.streamed is not None:
            head, streamed = signed_at_end(self._key, nonce, answer.status, answer.streamed)
            return replace(answer, headers={**answer.headers, **head}, streamed=streamed)
        # The answer to HEAD has no body, so none may be signed.
        body = b"" if request.method == "HEAD" else answer.body
        sign = partial(sign_answer, self._key, nonce, answer.status, body)
        return Answer(answer.status, body, {**answer.headers, SIGNATURE_HEADER: await hashed(sign, len(body))})

    async def _execution(self, passing: ExitStack, request: web.Request, signed: GateCall, memory: Memory) -> Answer:
        may_pass_on = request.headers.get(SIGNED_AT_END_HEADER) == SIGNED_AT_END
        answer = await self._calls.answer(_job_call(request, signed, memory, passing if may_pass_on else None))
        return replace(answer, headers={**answer.headers, ORIGIN_HEADER: EXECUTION_ORIGIN})

    async def _facts(self, _request: web.Request, _signed: GateCall, _memory: Memory) -> Answer:
        return _json(await self._centre.facts())


def _json(model: BaseModel) -> Answer:
    return Answer(200, model.model_dump_json(exclude_none=True).encode(), {"Content-Type": "application/json"})


async def _answered(request: web.Request, signed: GateCall, answer_to: _AnswerTo, memory: Memory) -> Answer:
    """The answer to a call, or a problem in its place."""
    job = request.match_info.get("job")
    try:
        return await answer_to(request, signed, memory)
    except EdgeError as error:
        if error.code is not ErrorCode.POLICY_DENIED:  # it has an event of its own, which is limited
            log.info("gate_refused", job=job, code=error.code, detail=error.detail)
        return _problem(error, signed.request_id)
    except Exception:
        log.exception("gate_failed", job=job)
        return _problem(EdgeError(ErrorCode.INTERNAL), signed.request_id)


def _job_call(request: web.Request, signed: GateCall, memory: Memory, passing: ExitStack | None) -> JobCall:
    job = request.match_info["job"]
    try:
        _JOB_ID.validate_python(job)
    except ValidationError:
        # It must not become part of a NATS subject: `>` would match the record of another job.
        raise EdgeError(ErrorCode.INVALID_REQUEST, "this is no job id") from None
    path, query = _execution_path(signed.target, job)
    if path is None:
        # The router matched the decoded form of a path that is not encoded as the relay encodes it.
        raise EdgeError(ErrorCode.INVALID_REQUEST, "the gate's own part of the path has an unusual encoding")
    headers = {name: request.headers[name] for name in FORWARDED_HEADERS if name in request.headers}
    call = ExecutionCall(signed.method, path, query, headers, signed.body, memory, passing)
    return JobCall(job, signed.worker, signed.request_id, call)


def _execution_path(target: str, job: str) -> tuple[str | None, str]:
    """The encoded path of the Execution API in a request's target, if it is plainly there; and the query."""
    path, _, query = target.partition("?")
    prefix = GATE_EXECUTION.format(job=job, path="")
    return (path.removeprefix(prefix) if path.startswith(prefix) else None), query


def _problem(error: EdgeError, request_id: str) -> Answer:
    problem = error.problem(request_id or None)
    body = orjson.dumps(problem.model_dump(mode="json", exclude_none=True))
    return Answer(problem.status, body, {"Content-Type": PROBLEM_TYPE, ORIGIN_HEADER: GATE_ORIGIN})


async def _send(request: web.Request, answer: Answer) -> web.StreamResponse:
    body = answer.body if answer.streamed is None else answer.streamed
    return await send(request, answer.status, answer.headers, body)
