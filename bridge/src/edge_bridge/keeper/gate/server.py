"""The gate's HTTP side: checks that a relay signed the call, and signs the answer. Internal, never exposed.

One route handles all calls of jobs; `passthrough` decides what is allowed. Another route returns facts about the
centre. The answer to a call with a wrong signature is not signed: without the secret nothing can be signed by the gate.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
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
from edge_bridge.keeper.gate.upstream import Answer, ExecutionCall
from edge_bridge.keeper.metrics import KeeperMetrics
from edge_bridge.keeper.why.task_answers import TaskAnswers
from edge_schemas.gate.auth import SIGNATURE_HEADER, GateCall, check_call, sign_answer
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
from edge_service.body_progress import BodyStalled, BodyTooLarge, read_body
from edge_service.threads import hashed

log = structlog.get_logger(__name__)

_JOB_ID: TypeAdapter[str] = TypeAdapter(JobId)

Health = Callable[[], dict[str, object]]
"""The content of `/healthz`; `ok` decides between 200 and 503."""
_AnswerTo = Callable[[web.Request, GateCall], Awaitable[Answer]]


def build_app(
    key: bytes,
    calls: PassThrough,
    centre: CentreView,
    health: Health,
    *,
    metrics: KeeperMetrics,
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
        why: Answers why a task instance has no job; without it there is no such route.
        limits: Of calls.
        clock: Unix time; signatures are bound to it.
    """
    gate = _Gate(key, calls, centre, health, metrics=metrics, limits=limits, clock=clock)
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
        limits: CallLimits,
        clock: Callable[[], float],
    ) -> None:
        self._key = key
        self._calls = calls
        self._centre = centre
        self._health = health
        self._metrics = metrics
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

    async def execution(self, request: web.Request) -> web.Response:
        """A call of the Execution API for a job."""
        began = time.monotonic()
        reply = await self._signed(request, self._execution)
        path, _ = _execution_path(request.raw_path, request.match_info["job"])
        self._metrics.gate_answered(path or "", reply.status, time.monotonic() - began)
        return reply

    async def centre(self, request: web.Request) -> web.Response:
        """What workers may know of the centre."""
        return await self._signed(request, self._facts)

    def why(self, answers: TaskAnswers) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Why a task instance has no job."""

        async def findings(request: web.Request, _signed: GateCall) -> Answer:
            try:
                query = TaskQuery.model_validate(dict(request.query))
            except ValidationError:
                raise EdgeError(ErrorCode.INVALID_REQUEST, "the query names no task instance") from None
            return _json(await answers.findings(query))

        async def handle(request: web.Request) -> web.Response:
            return await self._signed(request, findings)

        return handle

    async def _signed(self, request: web.Request, answer_to: _AnswerTo) -> web.Response:
        """Answer a call that a relay signed, and sign the answer."""
        worker = request.headers.get(WORKER_HEADER, "")
        request_id = request.headers.get(REQUEST_ID_HEADER, "")
        try:
            body = await read_body(request.content, limit=self._limits.max_call_bytes)
        except BodyTooLarge:
            return _reply(_problem(self._limits.body_too_large(), request_id))
        except BodyStalled as stalled:
            raise web.HTTPRequestTimeout(text=str(stalled)) from None
        signed = GateCall(request.method, request.raw_path, worker, request_id, body)
        signature = request.headers.get(SIGNATURE_HEADER, "")
        nonce = await hashed(partial(check_call, self._key, signed, signature, now=self._clock()), len(body))
        if nonce is None:
            log.warning("gate_signature_refused", remote=request.remote)
            error = EdgeError(ErrorCode.UNAUTHENTICATED, "the call has no recent signature with this gate's secret")
            return _reply(_problem(error, request_id))
        with structlog.contextvars.bound_contextvars(request_id=request_id, worker=worker):
            answer = await _answered(request, signed, answer_to)
        if request.method == "HEAD":
            # The answer has no body, so none may be signed.
            answer = replace(answer, body=b"")
        reply = _reply(answer)
        sign = partial(sign_answer, self._key, nonce, answer.status, answer.body)
        reply.headers[SIGNATURE_HEADER] = await hashed(sign, len(answer.body))
        return reply

    async def _execution(self, request: web.Request, signed: GateCall) -> Answer:
        answer = await self._calls.answer(_job_call(request, signed))
        return replace(answer, headers={**answer.headers, ORIGIN_HEADER: EXECUTION_ORIGIN})

    async def _facts(self, _request: web.Request, _signed: GateCall) -> Answer:
        return _json(await asyncio.to_thread(self._centre.facts))


def _json(model: BaseModel) -> Answer:
    return Answer(200, model.model_dump_json(exclude_none=True).encode(), {"Content-Type": "application/json"})


async def _answered(request: web.Request, signed: GateCall, answer_to: _AnswerTo) -> Answer:
    """The answer to a call, or a problem in its place."""
    job = request.match_info.get("job")
    try:
        return await answer_to(request, signed)
    except EdgeError as error:
        log.info("gate_refused", job=job, code=error.code, detail=error.detail)
        return _problem(error, signed.request_id)
    except Exception:
        log.exception("gate_failed", job=job)
        return _problem(EdgeError(ErrorCode.INTERNAL), signed.request_id)


def _job_call(request: web.Request, signed: GateCall) -> JobCall:
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
    call = ExecutionCall(signed.method, path, query, headers, signed.body)
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


def _reply(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, body=answer.body, headers=dict(answer.headers))
