"""`* /v1/jobs/{job}/execution/{path}`: a task's call to Airflow's Execution API, handed on to the gate.

The path is checked here and forwarded as it came. Nothing decodes it and encodes it again: two servers that read one
path differently are how somebody reaches what is not his.
"""

import re
import time

from aiohttp import web

from edge_relay.gate.client import GateAnswer
from edge_relay.http import keys
from edge_relay.http.bodies import job_of
from edge_relay.http.callers import require_worker
from edge_relay.http.middlewares import REQUEST_ID
from edge_relay.http.raw_bodies import read_bounded
from edge_schemas.gate.auth import GateCall
from edge_schemas.gate.execution_paths import CallClass, call_class, split_path
from edge_schemas.life.holder_calls import check_holder
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
MAX_BODY_BYTES = 16 << 20
_QUERY = re.compile(r"[!-~]*")


def add_routes(app: web.Application) -> None:
    """For the workers' listener."""
    for method in METHODS:
        app.router.add_route(method, routes.JOB_EXECUTION.replace("{path}", "{path:.*}"), forward)


async def forward(request: web.Request) -> web.Response:
    """Ask the gate for the job's holder; its answer goes back as it is."""
    principal = await require_worker(request)
    job = job_of(request)
    target, about = _target(request, job)
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise EdgeError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "send the body without a content encoding")
    check_holder(await request.app[keys.RECORDS].get(job), principal.worker)
    body = await read_bounded(request, MAX_BODY_BYTES)
    call = GateCall(request.method, target, principal.worker, request[REQUEST_ID], body)
    answer = await _ask(request, call, about)
    return web.Response(status=answer.status, body=answer.body, headers=answer.headers)


async def _ask(request: web.Request, call: GateCall, about: CallClass) -> GateAnswer:
    gate = request.app[keys.GATE]
    if gate is None:
        raise EdgeError(ErrorCode.GATE_UNAVAILABLE, "this relay has no gate: RELAY_GATE_URLS is not set")
    outcome, began = "abandoned", time.monotonic()
    try:
        answer = await gate.call(call, request.headers)
        outcome = "answered"
    except EdgeError:
        outcome = "unavailable"
        raise
    finally:
        seconds = request.app[keys.METRICS].execution_seconds.labels(about, outcome)
        seconds.observe(time.monotonic() - began)
    return answer


def _target(request: web.Request, job: str) -> tuple[str, CallClass]:
    """Raw path and query for the gate, and what the call is about.

    `raw_path` is the target as it was on the wire, in absolute form if somebody sent that.
    """
    path, _, query = request.raw_path.partition("?")
    before = routes.JOB_EXECUTION.format(job=job, path="")
    if not path.startswith(before):
        raise EdgeError(ErrorCode.INVALID_REQUEST, "send the path in its plain form")
    raw = path.removeprefix(before)
    about = call_class(split_path(raw))
    if not _QUERY.fullmatch(query) or "#" in query:
        raise EdgeError(ErrorCode.INVALID_REQUEST, "the query holds characters that must be percent-encoded")
    target = routes.GATE_EXECUTION.format(job=job, path=raw)
    return (f"{target}?{query}" if query else target), about
