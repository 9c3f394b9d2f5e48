"""Calls to the relay's operators' listener, from the api-server's event loop."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import structlog
from fastapi.concurrency import run_in_threadpool
from yarl import URL

from edge_bridge.page.settings import CA_FILE, NEW_TOKEN, URLS, PageSettings
from edge_bridge.settings import SECTION, SettingsError
from edge_schemas.wire.errors import EdgeError, ErrorCode

log = structlog.get_logger(__name__)

CONNECT_S = 3.0
ANSWER_S = 30.0
"""The longest silence of a relay within a call, and the longest a call takes, except for a stream."""
MAX_CALLS = 32
MAX_ANSWER_BYTES = 8 << 20
REREAD_S = 5.0
"""Settings that did not work are read again, at most so often: a token is replaced without a restart."""


class RelayUnusable(EdgeError):
    """The relay can't be reached or does not accept the page's calls; the detail names the setting to correct."""

    def __init__(self, detail: str) -> None:
        super().__init__(ErrorCode.RELAY_UNAVAILABLE, detail)


@dataclass(frozen=True, slots=True)
class Call:
    """One call to the relay.

    Attributes:
        path: Encoded, with its query.
        headers: Without the credential.
        silence_s: The longest time between two parts of the answer.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None = None
    silence_s: float = ANSWER_S


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of the relay."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class RelayClient:
    """Tries one relay after the other. For one event loop.

    Args:
        read_settings: Called in a thread when they are needed; raises `SettingsError`.
    """

    def __init__(self, read_settings: Callable[[], PageSettings]) -> None:
        self._read_settings = read_settings
        self._settings: PageSettings | None = None
        self._read_at = 0.0
        self._first = 0
        self._session: aiohttp.ClientSession | None = None
        self._calls = 0

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def settings(self) -> PageSettings:
        """The settings in use.

        Raises:
            RelayUnusable: They are not complete.
        """
        if self._settings is None:
            try:
                self._settings = await run_in_threadpool(self._read_settings)
            except SettingsError as error:
                raise RelayUnusable(str(error)) from error
            self._read_at = time.monotonic()
        return self._settings

    def doubt_settings(self) -> None:
        """They did not work: read them again at the next call."""
        if time.monotonic() - self._read_at > REREAD_S:
            self._settings = None

    async def ask(self, call: Call) -> Answer:
        """Call the relay and read the whole answer.

        Raises:
            EdgeError: `relay_unavailable`; `rate_limited` if too many calls are under way.
        """
        async with self._counted():
            try:
                async with asyncio.timeout(ANSWER_S), self.open(call) as response:
                    body = await _read(response)
                    return Answer(response.status, response.headers.copy(), body)
            except (TimeoutError, aiohttp.ClientError) as error:
                raise RelayUnusable(f"the relay did not complete its answer within {ANSWER_S:g} s") from error

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[aiohttp.ClientResponse]:
        """Call the relay; its answer has begun and is not read yet.

        Raises:
            RelayUnusable: No relay can be used.
        """
        settings = await self.settings()
        headers = {**call.headers, "Authorization": f"Bearer {settings.token}"}
        response = await self._first_answer(settings, call, headers)
        try:
            if response.status == 401:
                self.doubt_settings()
                raise RelayUnusable(f"the relay does not know the access token, or it has expired: {NEW_TOKEN}")
            yield response
        finally:
            response.close()

    async def _first_answer(
        self, settings: PageSettings, call: Call, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        problems: dict[str, str] = {}
        number = len(settings.urls)
        for index in range(self._first, self._first + number):
            url = settings.urls[index % number]
            try:
                response = await self._send(url, settings.tls, call, headers)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                problems[url] = _explain(error)
                if call.method != "GET" and not isinstance(error, aiohttp.ClientConnectorError):
                    break  # the relay may have made the change: the user decides whether to repeat it
            else:
                self._first = index % number
                return response
        self.doubt_settings()
        log.warning("page_relay_unreachable", problems=problems)
        found = "; ".join(f"{url}: {problem}" for url, problem in problems.items())
        raise RelayUnusable(f"no relay can be reached ({found}): check [{SECTION}] {URLS} and that a relay runs there")

    async def _send(
        self, url: str, tls: ssl.SSLContext, call: Call, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return await self._session.request(
            call.method,
            URL(url + call.path, encoded=True),
            headers=headers,
            data=call.body,
            ssl=tls,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=call.silence_s),
        )

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        if self._calls >= MAX_CALLS:
            raise EdgeError(ErrorCode.RATE_LIMITED, "too many calls to the relay are under way", retry_after_s=1.0)
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise RelayUnusable(f"the relay's answer has more than {MAX_ANSWER_BYTES >> 20} MiB")
    return bytes(body)


def _explain(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return f"its certificate is not trusted, see [{SECTION}] {CA_FILE}"
        case aiohttp.ClientSSLError():
            return "it speaks no TLS that can be used"
        case aiohttp.ClientConnectorDNSError():
            return "its name is not known"
        case aiohttp.ClientConnectorError():
            return error.os_error.strerror or "no connection"
        case TimeoutError():
            return "no answer in time"
        case aiohttp.ServerDisconnectedError():
            return "it closed the connection"
        case _:
            return f"what answers is no relay ({type(error).__name__})"
