"""Calls Airflow's Execution API: path and query unchanged, a fresh token, a few quick retries."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
import structlog
from yarl import URL

from edge_bridge.keeper.metrics import KeeperMetrics
from edge_bridge.keeper.tokens import TokenMint, TokenSubject
from edge_schemas.wire.errors import EdgeError, ErrorCode

log = structlog.get_logger(__name__)

CALL_TIMEOUT_S = 20.0
CONNECT_TIMEOUT_S = 3.0
TRIES = 3
ALL_TRIES_S = 45.0
"""For all tries together: well within the minute that a relay waits for the gate."""
RETRY_PAUSE_S = 0.2
RETRY_AFTER_S = 2.0
PASSED_BACK = ("Content-Type", "Content-Range")
"""`HEAD` on an XCom answers in `Content-Range`. Never `Refreshed-API-Token`."""
_BAD_TOKEN = b"Invalid auth token"


BeforeRetry = Callable[[], Awaitable[object]]
"""Awaited before each further try of a call; an exception that it raises ends the call."""


@dataclass(frozen=True, slots=True)
class ExecutionCall:
    """A call of the Execution API.

    Attributes:
        path: Raw, relative to the API's root, without a leading slash.
        query: Raw, without the question mark.
        headers: From the allow-list only.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the Execution API, or an answer in its name."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def accepted(self) -> bool:
        """Airflow accepted the call."""
        return 200 <= self.status < 300


class ExecutionApi:
    """One connection pool to the api-server. Use as an asynchronous context manager.

    Args:
        url: The API's root, `http(s)://…/execution/`.
        mint: Mints a token for each try.
        metrics: Count the calls.
    """

    def __init__(self, url: str, mint: TokenMint, metrics: KeeperMetrics) -> None:
        self._url = url.rstrip("/") + "/"
        self._mint = mint
        self._metrics = metrics
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=100, keepalive_timeout=15),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S),
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
        """Airflow's answer, whatever it is, unless the centre is at fault.

        Args:
            subject: In whose name the call is made.
            call: The call.
            tries: How often it is tried at most.
            before_retry: Checks whether the call is still wanted.

        Raises:
            EdgeError: `gate_unavailable`: the api-server is down, fails or rejects the keeper's token. Repeat the
                call; its outcome is unknown.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(ALL_TRIES_S):
                for attempt in range(tries):
                    if attempt:
                        await asyncio.sleep(RETRY_PAUSE_S * 2**attempt * random.uniform(0.5, 1))  # noqa: S311
                        if before_retry is not None:
                            await before_retry()
                    answer = await self._try(subject, call)
                    if answer is not None:
                        return answer
        raise EdgeError(
            ErrorCode.GATE_UNAVAILABLE, "Airflow's api-server fails, or does not answer", retry_after_s=RETRY_AFTER_S
        )

    async def _try(self, subject: TokenSubject, call: ExecutionCall) -> Answer | None:
        assert self._session is not None  # noqa: S101  # used only within its context
        suffix = f"?{call.query}" if call.query else ""
        token, began = self._mint.mint(subject), time.monotonic()
        self._metrics.token_minted()
        try:
            async with self._session.request(
                call.method,
                # Unchanged: yarl would decode the path and encode it again.
                URL(f"{self._url}{call.path}{suffix}", encoded=True),
                data=call.body or None,
                headers={**call.headers, "Authorization": f"Bearer {token}"},
                skip_auto_headers=("Content-Type",),
                allow_redirects=False,
            ) as reply:
                body = await reply.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("execution_api_unreachable", subject=subject.id, method=call.method, error=type(error).__name__)
            return None
        self._metrics.api_answered(call.path, time.monotonic() - began)
        if reply.status >= 500:
            log.warning("execution_api_failed", subject=subject.id, method=call.method, status=reply.status)
            return None
        if reply.status == 401 or (reply.status == 403 and _BAD_TOKEN in body):
            log.error(
                "execution_token_refused",
                subject=subject.id,
                hint="compare [api_auth] and clock with the api-server",
            )
            return None
        return Answer(reply.status, body, {name: reply.headers[name] for name in PASSED_BACK if name in reply.headers})
