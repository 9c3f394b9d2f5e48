"""What surrounds every call: its id, one line in the log, and errors as RFC 9457 problems."""

import os
import re
import time
from collections.abc import Awaitable, Callable
from logging import DEBUG, INFO

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from edge_relay.http.browsers import SESSION_COOKIE, Browsers
from edge_relay.http.operator_callers import STALE_SESSION
from edge_relay.http.raw_bodies import in_pieces
from edge_relay.limits.connection_table import ConnectionTable
from edge_relay.limits.malformed_requests import MalformedRequests
from edge_relay.metrics.replica import Metrics
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode, Problem
from edge_ui.paths import UI_PATHS

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID = web.RequestKey("request_id", str)
CLIENT_GONE = 499
"""Logged and counted, never sent: the client left before its answer."""
BROKER_DETAIL = "the message broker can't be used at the moment; the relay's log says why. Repeat the call later"
"""The only detail on the exposed listener: the full one may name subjects, and with them hashes of secrets."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_QUIET = frozenset({routes.HEALTHZ, routes.READYZ, routes.METRICS, *UI_PATHS})
_HELD = frozenset({routes.POLL, routes.ADMIN_CHANGES})
_CODE_OF_STATUS = {
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    413: ErrorCode.PAYLOAD_TOO_LARGE,
    415: ErrorCode.UNSUPPORTED_MEDIA_TYPE,
}
_CREDENTIAL_FAILURES = {
    ErrorCode.UNAUTHENTICATED: "unknown",
    ErrorCode.CREDENTIAL_REVOKED: "revoked",
    ErrorCode.FORBIDDEN: "forbidden",
}
"""The code to the metric's label."""


class CallMiddlewares:
    """Surrounds the calls of one listener.

    Args:
        metrics: Counts and times the calls.
        connections: Of the listener.
        malformed: Counts bodies that are no HTTP.
        exposed: Whether strangers can reach this listener: errors then hide what the installation looks like inside.
        browsers: Of a listener where browsers sign in.
    """

    def __init__(
        self,
        metrics: Metrics,
        connections: ConnectionTable,
        malformed: MalformedRequests,
        *,
        exposed: bool,
        browsers: Browsers | None = None,
    ) -> None:
        self._browsers = browsers
        self._metrics = metrics
        self._connections = connections
        self._malformed = malformed
        self._exposed = exposed

    def all(self) -> tuple[Middleware, ...]:
        """All of them, the outermost first."""
        return (self.identify, self.answer_errors)

    @web.middleware
    async def identify(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Give the call its id, bind it to what is logged, and log one line at the end of the call."""
        request_id = request.headers.get(routes.REQUEST_ID_HEADER, "")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = os.urandom(16).hex()
        request[REQUEST_ID] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        began = time.monotonic()
        status = CLIENT_GONE
        try:
            response = await handler(request)
            status = response.status
            self._close_if_stranger(request, response)
            return response
        finally:
            self._account(request, status, time.monotonic() - began)

    def _close_if_stranger(self, request: web.Request, response: web.StreamResponse) -> None:
        """A stranger has one call for each connection: idle connections are for known callers."""
        if self._exposed and self._connections.is_stranger(request.transport):
            response.force_close()

    @web.middleware
    async def answer_errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn what a handler raises into a problem; an unexpected error is logged and answered without details."""
        try:
            response = await handler(request)
            self._close_if_stranger(request, response)
            return await in_pieces(request, response)
        except EdgeError as error:
            structlog.contextvars.bind_contextvars(code=str(error.code))
            self._count_credential_failure(request, error.code)
            if error.code is ErrorCode.BROKER_UNAVAILABLE:
                structlog.contextvars.bind_contextvars(detail=error.detail)
                if self._exposed:
                    error = EdgeError(error.code, BROKER_DETAIL, **error.extra)
            response = problem_response(error, request[REQUEST_ID])
            if self._browsers is not None and request.get(STALE_SESSION):
                self._browsers.clear_cookie(request, response, SESSION_COOKIE)
            return response
        except web.HTTPException as error:
            code = _CODE_OF_STATUS.get(error.status, ErrorCode.INVALID_REQUEST)
            if error.status >= 500:
                code = ErrorCode.INTERNAL
            response = problem_response(EdgeError(code), request[REQUEST_ID])
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
            return response
        except web.RequestPayloadError:
            self._malformed.record()
            malformed = EdgeError(ErrorCode.INVALID_REQUEST, "the body is not framed as its headers say")
            response = problem_response(malformed, request[REQUEST_ID])
            response.force_close()
            return response
        except ConnectionError:
            # The client is gone. aiohttp would report an error of the relay; an answer into a closed connection is
            # dropped without a report.
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=CLIENT_GONE)
        except Exception as error:  # the last resort: the server continues, the log has the traceback
            log.exception("request_failed", error=type(error).__name__)
            return problem_response(EdgeError(ErrorCode.INTERNAL), request[REQUEST_ID])

    def _account(self, request: web.Request, status: int, seconds: float) -> None:
        resource = request.match_info.route.resource
        route = "unknown" if resource is None else resource.canonical
        self._metrics.requests.labels(route, str(status)).inc()
        if route not in _HELD and not (request.query_string and "wait" in request.query):
            self._metrics.request_seconds.labels(route).observe(seconds)
        is_empty_poll = route == routes.POLL and status == 204
        level = DEBUG if is_empty_poll or (route in _QUIET and status < 500) else INFO
        method = request.method if request.method.isalpha() else "?"
        log.log(level, "request_served", method=method, route=route, status=status, ms=round(seconds * 1000, 1))

    def _count_credential_failure(self, request: web.Request, code: ErrorCode) -> None:
        reason = _CREDENTIAL_FAILURES.get(code)
        if code is ErrorCode.UNAUTHENTICATED and "Authorization" not in request.headers:
            reason = "missing"
        if reason is not None:
            self._metrics.credential_failures.labels(reason).inc()


def problem_response(error: EdgeError, request_id: str) -> web.Response:
    """The answer to a call that was refused or failed."""
    problem: Problem = error.problem(request_id)
    response = web.Response(
        status=problem.status,
        body=problem.model_dump_json(exclude_none=True).encode(),
        content_type=routes.PROBLEM_TYPE,
    )
    if problem.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, round(problem.retry_after_s)))
    if error.code in {ErrorCode.UNAUTHENTICATED, ErrorCode.CREDENTIAL_REVOKED}:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


async def finish_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Before an answer is sent: echo the request id, and keep proxies from storing the answer."""
    request_id = request.get(REQUEST_ID)
    if request_id is not None:
        response.headers[routes.REQUEST_ID_HEADER] = request_id
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
