"""The result of a call to the relay: an answer, a refusal, or no answer of the relay.

Every call fails in one of two ways. `NoAnswer`: nothing arrived, or what arrived is not from the relay (a proxy's page,
a captive portal). `Refused`: the relay refused, with a code.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError
from typing_extensions import override

from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode, Problem
from edge_worker.relay.proxy import Proxy

_QUOTED_CHARS = 120
_BODILESS = {
    401: ErrorCode.UNAUTHENTICATED,
    409: ErrorCode.WRONG_STATE,
    410: ErrorCode.JOB_ENDED,
    429: ErrorCode.RATE_LIMITED,
}
_Model = TypeVar("_Model", bound=BaseModel)


class CallError(Exception):
    """A call that did not succeed."""


class NoAnswer(CallError):
    """The relay has not answered; the request may or may not have taken effect.

    Attributes:
        connected: A connection was established before the failure.
        status: Of the answer, if something other than the relay answered.
        proxy_status: The status with which the proxy, not the relay, refused.
    """

    def __init__(
        self, detail: str, *, connected: bool = True, status: int | None = None, proxy_status: int | None = None
    ) -> None:
        super().__init__(detail)
        self.connected = connected
        self.status = status
        self.proxy_status = proxy_status


class Refused(CallError):
    """The relay has answered with a problem.

    Attributes:
        retry_after_s: How long the relay asks to wait.
        origin: The mark of whoever refused; empty for the relay itself.
    """

    def __init__(self, problem: Problem, retry_after_s: float | None = None, *, origin: str = "") -> None:
        super().__init__(f"{problem.code}: {problem.detail or problem.title}")
        self.problem = problem
        self.code = problem.code
        self.retry_after_s = problem.retry_after_s if retry_after_s is None else retry_after_s
        self.origin = origin

    @override
    def __reduce__(self) -> tuple[object, ...]:
        """For pickles: its text is not its argument."""
        return partial(Refused, origin=self.origin), (self.problem, self.retry_after_s)


@dataclass(frozen=True)
class Reply:
    """The HTTP answer to a call, from the relay or from something in between.

    Attributes:
        trip_s: How long the call took; None if the answer may have been delayed on purpose.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    trip_s: float | None = None


def is_success(status: int, headers: Mapping[str, str], request_id: str) -> bool:
    """Whether the relay itself has answered with success, as far as the head of its answer shows it."""
    return 200 <= status < 300 and headers.get(routes.REQUEST_ID_HEADER) == request_id


def check_reply(reply: Reply, request_id: str) -> None:
    """Raises unless the relay itself has answered with success.

    The relay echoes the request id. This distinguishes its answers from those of a portal or proxy that answers every
    request with 200.

    Raises:
        Refused: The relay refused.
        NoAnswer: The answer is not the relay's.
    """
    if is_success(reply.status, reply.headers, request_id):
        return
    if _content_type(reply) == routes.PROBLEM_TYPE:
        problem = parse(Problem, reply) if reply.body else _bodiless(reply.status)
        raise Refused(problem, _retry_after(reply), origin=reply.headers.get(routes.ORIGIN_HEADER, ""))
    msg = f"not the relay's answer: status {reply.status}{_quote(reply)}"
    raise NoAnswer(msg, status=reply.status)


def parse(model: type[_Model], reply: Reply) -> _Model:
    """The body as a model.

    Raises:
        NoAnswer: The body is something else.
    """
    try:
        return model.model_validate_json(reply.body)
    except ValidationError as error:
        # Neither the error nor the body is quoted: both may contain data of a task.
        msg = f"an answer with status {reply.status} that is no {model.__name__} ({error.error_count()} faults)"
        raise NoAnswer(msg, status=reply.status) from None


def no_answer(error: Exception, proxy: Proxy | None) -> NoAnswer:
    """Why a call has failed, with a hint at the cause."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        where = proxy.url if proxy else "?"
        detail = f"the proxy {where} answered {error.status} {_printable(error.message)}"
        if error.status == 407:
            detail += "; check proxy_user and proxy_password_file, or user and password in the proxy's URL"
        return NoAnswer(detail, connected=False, proxy_status=error.status)
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        where = proxy.url if proxy else "?"
        return NoAnswer(f"the proxy {where} cannot be reached: {error.os_error}", connected=False)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
        detail = f"the certificate of {error.host}:{error.port} is not trusted: {why}; ca_file names its authority"
        return NoAnswer(detail, connected=False)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        # The text of this error contains half an answer, including its headers.
        return NoAnswer("the connection was closed before the answer was complete")
    # A total timeout may also expire while connecting; then no connection was open for as long as a poll.
    connected = not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return NoAnswer(f"{type(error).__name__}: {error}".rstrip(": "), connected=connected)


def _bodiless(status: int) -> Problem:
    """The problem in an answer to HEAD, as far as the status shows it."""
    return EdgeError(_BODILESS.get(status, ErrorCode.INTERNAL if status >= 500 else ErrorCode.FORBIDDEN)).problem()


def _retry_after(reply: Reply) -> float | None:
    text = reply.headers.get("Retry-After", "")
    return float(text) if re.fullmatch(r"\d{1,5}(\.\d+)?", text) else None


def _content_type(reply: Reply) -> str:
    return reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _quote(reply: Reply) -> str:
    """The beginning of a foreign page, which shows who wrote it. Never of JSON, which may contain a secret."""
    text = reply.body[: 4 * _QUOTED_CHARS].decode(errors="replace").strip()
    if not text or "json" in _content_type(reply) or text[0] in '{["':
        return ""
    return f", {_printable(text)!r}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:_QUOTED_CHARS]
