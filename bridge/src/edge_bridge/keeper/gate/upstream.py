"""Calls Airflow's Execution API: path and query unchanged, a fresh token, a few quick retries."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import aiohttp
import structlog
from yarl import URL

from edge_bridge.keeper.gate.answer_source import is_airflows, refusal_in_front
from edge_bridge.keeper.gate.streamed.bodies import ArrivingBody
from edge_bridge.keeper.gate.streamed.sending import LARGE_BODY_BYTES
from edge_bridge.keeper.metrics import KeeperMetrics
from edge_bridge.keeper.tokens import TokenMint, TokenSubject
from edge_schemas.gate.limits import DEFAULT_LIMITS, CallLimits
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_service.body_memory import UNCOUNTED, Memory, read_counted
from edge_service.body_progress import BodyTooLarge, Exchange, Pieces, slowest_s

log = structlog.get_logger(__name__)

CALL_TIMEOUT_S = 20.0
"""Until an answer begins. Like the next limit, it is longer for a large body; a body that moves is never cut off."""
CONNECT_TIMEOUT_S = 3.0
TRIES = 3
ALL_TRIES_S = 45.0
"""For all tries together: well within the minute that a relay waits for the gate."""
RETRY_PAUSE_S = 0.2
CONNECTIONS = 100
MOST_PASSED_ON = CONNECTIONS // 2
"""Answers that are passed on at the same time: slow workers leave connections to all other calls. A further answer is
read as a whole."""
RETRY_AFTER_S = 2.0
PASSED_BACK = ("Content-Type", "Content-Range")
"""`HEAD` on an XCom answers in `Content-Range`. Never `Refreshed-API-Token`."""
_BAD_TOKEN = b"Invalid auth token"


@dataclass(frozen=True, slots=True)
class ExecutionCall:
    """A call of the Execution API.

    Attributes:
        path: Raw, relative to the API's root, without a leading slash.
        query: Raw, without the question mark.
        headers: From the allow-list only.
        memory: Counts the bytes of the answer.
        passing: Closes what a streamed answer keeps open; None if the answer must be read as a whole.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    memory: Memory = field(default=UNCOUNTED, repr=False, compare=False)
    passing: ExitStack | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the Execution API, or an answer in its name.

    Attributes:
        streamed: The body of a large answer that has only begun, in place of `body`.
    """

    status: int
    body: bytes
    headers: Mapping[str, str]
    streamed: Pieces | None = None

    @property
    def accepted(self) -> bool:
        """Airflow accepted the call."""
        return 200 <= self.status < 300

    @property
    def failed(self) -> bool:
        """Airflow failed at the call; the same call may succeed later, or never."""
        return self.status >= 500


class _Away(Exception):
    """Nothing of Airflow's has answered; the text is for people."""


BeforeRetry = Callable[[], Awaitable[Answer | None]]
"""Awaited before each further try of a call. An answer that it returns or an exception that it raises ends the call."""


class ExecutionApi:
    """One connection pool to the api-server. Use as an asynchronous context manager.

    Args:
        url: The API's root, `http(s)://…/execution/`.
        mint: Mints a token for each try.
        metrics: Count the calls.
        limits: Of the answers.
    """

    def __init__(self, url: str, mint: TokenMint, metrics: KeeperMetrics, limits: CallLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._url = url.rstrip("/") + "/"
        self._mint = mint
        self._metrics = metrics
        self._session: aiohttp.ClientSession | None = None
        self._passed_on = 0

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=15),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "edge-relay-keeper"},
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(
        self, subject: TokenSubject, call: ExecutionCall, *, tries: int = TRIES, before_retry: BeforeRetry | None = None
    ) -> Answer:
        """Airflow's answer, whatever it is: also an error of the api-server, which is not tried again here.

        A large answer may be returned when it begins; its body is read while `call.passing` is open.

        Args:
            subject: In whose name the call is made.
            call: The call.
            tries: How often it is tried at most while there is no answer.
            before_retry: Checks whether the call is still wanted, and whether an earlier try took effect.

        Raises:
            EdgeError: `gate_unavailable`: the api-server is down or rejects the keeper's token. Repeat the call; its
                outcome is unknown. `payload_too_large` or `forbidden`: a server in front of it refuses the call, or
                the answer is too large. `rate_limited`: there is no memory for the answer. Repeat the call, too.
        """
        reason = ""
        deadline = time.monotonic() + ALL_TRIES_S + slowest_s(len(call.body))
        for attempt in range(tries):
            if attempt:
                await asyncio.sleep(RETRY_PAUSE_S * 2**attempt * random.uniform(0.5, 1))  # noqa: S311
                if before_retry is not None and (known := await before_retry()) is not None:
                    return known
            limit_s = min(CALL_TIMEOUT_S, deadline - time.monotonic())
            if limit_s <= 0:
                break
            try:
                answer = await self._try(subject, call, limit_s)
            except _Away as away:
                reason = str(away)
            else:
                return answer
        raise EdgeError(ErrorCode.GATE_UNAVAILABLE, reason, retry_after_s=RETRY_AFTER_S)

    async def _try(self, subject: TokenSubject, call: ExecutionCall, limit_s: float) -> Answer:
        assert self._session is not None  # noqa: S101  # used only within its context
        token, began = self._mint.mint(subject), time.monotonic()
        self._metrics.token_minted()
        with ExitStack() as opened:
            try:
                reply = await _begin(self._session, self._url, call, token, limit_s)
                opened.callback(reply.close)
                body, streamed = b"", self._streamed(call, reply, opened)
                if streamed is None:
                    body = await read_counted(reply.content, self._limits.max_call_bytes, call.memory)
            except BodyTooLarge:
                raise self._limits.answer_too_large() from None
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                name = type(error).__name__
                log.warning("execution_api_unreachable", subject=subject.id, method=call.method, error=name)
                raise _Away("Airflow's api-server does not answer") from error
            if streamed is not None and call.passing is not None:
                call.passing.enter_context(opened.pop_all())
        self._metrics.api_answered(call.path, time.monotonic() - began)
        headers = {name: reply.headers[name] for name in PASSED_BACK if name in reply.headers}
        answer = Answer(reply.status, body, headers, streamed)
        _check_source(answer, reply.headers.get("Content-Type", ""), subject, call.method)
        return answer

    def _streamed(self, call: ExecutionCall, reply: aiohttp.ClientResponse, opened: ExitStack) -> ArrivingBody | None:
        """The body of an answer that is passed on while it arrives; None for one that is read as a whole.

        Errors are read as a whole, because their text is checked. Without a length nothing can be announced.

        Raises:
            BodyTooLarge: It is longer than the limit.
            EdgeError: `rate_limited` by the memory.
        """
        length = reply.content_length or 0
        if call.passing is None or length <= LARGE_BODY_BYTES or not _is_body_of_success(reply):
            return None
        if length > self._limits.max_call_bytes:
            raise BodyTooLarge
        if self._passed_on >= MOST_PASSED_ON:
            return None
        opened.enter_context(self._one_more())
        # All of it: what the keeper has not read yet, the api-server holds, which counts nothing itself.
        call.memory.add(length)
        return ArrivingBody(reply, length, call.memory)

    @contextmanager
    def _one_more(self) -> Iterator[None]:
        self._passed_on += 1
        try:
            yield
        finally:
            self._passed_on -= 1


async def _begin(
    session: aiohttp.ClientSession, base: str, call: ExecutionCall, token: str, limit_s: float
) -> aiohttp.ClientResponse:
    """Send a call; returns the beginning of the answer."""
    suffix = f"?{call.query}" if call.query else ""
    async with Exchange(call.body, answer_s=limit_s) as exchange:
        reply = await session.request(
            call.method,
            # Unchanged: yarl would decode the path and encode it again.
            URL(f"{base}{call.path}{suffix}", encoded=True),
            data=exchange.body,
            headers={**call.headers, "Authorization": f"Bearer {token}"},
            skip_auto_headers=("Content-Type",),
            allow_redirects=False,
        )
        exchange.begun()
        return reply


def _is_body_of_success(reply: aiohttp.ClientResponse) -> bool:
    is_own = is_airflows(reply.status, reply.headers.get("Content-Type", ""))
    return reply.method != "HEAD" and 200 <= reply.status < 300 and is_own


def _check_source(answer: Answer, content_type: str, subject: TokenSubject, method: str) -> None:
    """Raises unless Airflow itself gave this answer.

    Raises:
        EdgeError: A server in front of Airflow refused the call.
        _Away: Another try may reach Airflow.
    """
    own = is_airflows(answer.status, content_type)
    if answer.failed or not own:
        log.warning("execution_api_failed", subject=subject.id, method=method, status=answer.status)
    if not own:
        refusal = refusal_in_front(answer.status)
        raise refusal or _Away(f"a server in front of Airflow's api-server answered with status {answer.status}")
    if answer.status == 401 or (answer.status == 403 and _BAD_TOKEN in answer.body):
        log.error(
            "execution_token_refused", subject=subject.id, hint="compare [api_auth] and clock with the api-server"
        )
        raise _Away("Airflow's api-server rejects the keeper's tokens")
