"""Sends requests to the relay: connections, the credential, the proxy, the second try of a call that hangs."""

import asyncio
import secrets
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from aiohappyeyeballs import AddrInfoType
from yarl import URL

from edge_schemas.gate.limits import DEFAULT_LIMITS, CallLimits
from edge_schemas.wire import routes
from edge_service.body_progress import BodyTooLarge, Exchange, body_parts, read_body, slowest_s
from edge_worker import __version__
from edge_worker.relay.call_result import NoAnswer, Refused, Reply, check_reply, is_success, no_answer
from edge_worker.relay.clock_skew import ClockSkew
from edge_worker.relay.link import Link
from edge_worker.relay.proxy import Proxy

CONNECT_S: Final = 10.0
CALL_S: Final = 30.0
AGAIN_S: Final = 12.0
"""A call is sent a second time if its answer has not begun after so long. Longer than connecting may take: only an
established connection can hang."""
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)


Sink = Callable[[bytes], Awaitable[None]]
"""Takes the next bytes of a body."""


def new_request_id() -> str:
    """The id of a request that is not a repetition."""
    return secrets.token_hex(16)


@dataclass(frozen=True)
class Request:
    """One request to the relay.

    Attributes:
        path: Percent-encoded; it is sent unchanged.
        query: Raw, without the question mark.
        limit_s: Until the answer begins. Bodies may take longer as long as they move: see `body_progress`.
        request_id: The same for every repetition.
        is_poll: The request uses the connections for polls.
        with_credential: The request shows the worker's credential.
        checked: Only a successful answer of the relay itself is accepted.
        limits: Of the answer.
        sink: Gets the body of a successful answer while it arrives, also of one that breaks off. The reply has no body
            then.
    """

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    limit_s: float = CALL_S
    request_id: str = field(default_factory=new_request_id)
    is_poll: bool = False
    with_credential: bool = True
    checked: bool = True
    limits: CallLimits = DEFAULT_LIMITS
    sink: Sink | None = None


class Sessions:
    """The connections to the relay: those for polls, and those for all other calls."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._polls: aiohttp.ClientSession | None = None
        self._calls: aiohttp.ClientSession | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Opens both sessions; a connection is made with the first call."""
        self._polls, self._calls = self._new(), self._new()

    async def close(self) -> None:
        """Closes all connections."""
        polls, calls, self._polls, self._calls = self._polls, self._calls, None, None
        for session in (polls, calls):
            if session is not None:
                await session.close()
        await asyncio.gather(*self._closing)

    def renew(self) -> None:
        """Replaces the connections for calls. Calls under way fail with `NoAnswer`, and their callers repeat them."""
        if self._calls is not None:
            closing = asyncio.create_task(self._calls.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            self._calls = self._new()

    def session(self, *, is_poll: bool) -> aiohttp.ClientSession:
        """The session for a call.

        Raises:
            RuntimeError: The client is not open.
        """
        session = self._polls if is_poll else self._calls
        if session is None:
            msg = "the client is not open"
            raise RuntimeError(msg)
        return session

    def is_current(self, session: aiohttp.ClientSession) -> bool:
        """Whether a session for calls has not been replaced; False for the session for polls."""
        return session is self._calls

    def _new(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls, keepalive_timeout=30, socket_factory=_open_socket)
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            # `resolve_proxy` resolves the proxy. With trust_env aiohttp would also send passwords of ~/.netrc.
            trust_env=False,
            headers={"User-Agent": f"edge-worker/{__version__}"},
        )


class Transport:
    """Sends requests, and records what their answers show about the link and the clock."""

    def __init__(self, relay_url: str, secret: str, *, sessions: Sessions, proxy: Proxy | None, link: Link) -> None:
        self._base = relay_url
        self._secret = secret
        self._agent_key = secrets.token_urlsafe(32)
        self._sessions = sessions
        self._proxy = proxy
        self._link = link
        self.skew = ClockSkew()

    async def send_twice(self, request: Request, *, again_s: float) -> Reply:
        """Sends a request, and sends it again on another connection if it hangs while the link is otherwise good.

        The first try is not cancelled: the relay itself may be slow. To the relay both are one call, like any
        repetition.
        """
        begun = asyncio.Event()
        first = asyncio.create_task(self.send(request, on_begun=begun.set))
        tries = {first}
        try:
            if await _hangs(first, begun, again_s + slowest_s(len(request.body))) and self._link.is_proven:
                tries.add(asyncio.create_task(self.send(request)))
            while True:
                done, tries = await asyncio.wait(tries, return_when=asyncio.FIRST_COMPLETED)
                answered = [task for task in done if not isinstance(task.exception(), NoAnswer)]
                if answered or not tries:
                    return (answered or list(done))[0].result()
        finally:
            for task in tries:
                task.cancel()

    async def send(self, request: Request, *, on_begun: Callable[[], None] = lambda: None) -> Reply:
        """Sends a request once.

        Args:
            request: What to send.
            on_begun: Called when the head of the answer has arrived.

        Raises:
            Refused: The relay refused, not for a request that is not `checked`; or the answer is too large.
            NoAnswer: There is no answer, or none of the relay.
        """
        secret = self._secret
        reply = await self._send(request, secret, on_begun)
        if self._is_outdated(reply, request, secret):
            # The secret was rotated while the call was under way: to the relay this is one call, like any repetition.
            reply = await self._send(request, self._secret, on_begun)
        if request.checked:
            self.check(reply, request.request_id)
        return reply

    def use_secret(self, secret: str) -> None:
        """Show this secret from now on. Calls under way that are refused for the older one are repeated with it."""
        self._secret = secret

    def _is_outdated(self, reply: Reply, request: Request, secret: str) -> bool:
        is_refused = reply.status == 401 and routes.ORIGIN_HEADER not in reply.headers
        return is_refused and request.with_credential and secret != self._secret

    async def _send(self, request: Request, secret: str, on_begun: Callable[[], None]) -> Reply:
        session = self._sessions.session(is_poll=request.is_poll)
        own_headers = {routes.REQUEST_ID_HEADER: request.request_id}
        if request.with_credential:
            own_headers["Authorization"] = f"Bearer {secret}"
            own_headers[routes.AGENT_HEADER] = self._agent_key
        query = f"?{request.query}" if request.query else ""
        began = time.monotonic()
        try:
            async with (
                Exchange(request.body, answer_s=request.limit_s) as exchange,
                session.request(
                    request.method,
                    # Marked as encoded, because yarl would otherwise decode and encode the path again.
                    URL(f"{self._base}{request.path}{query}", encoded=True),
                    data=exchange.body,
                    headers={**request.headers, **own_headers},
                    timeout=_TIMEOUT,
                    allow_redirects=False,
                    proxy=self._proxy.url if self._proxy else None,
                    proxy_headers=self._proxy.headers if self._proxy else None,
                ) as answer,
            ):
                exchange.begun()
                on_begun()
                # The head of an answer shows when it was made; the body may be large.
                trip_s = None if request.is_poll else time.monotonic() - began
                reply = Reply(answer.status, answer.headers, await _read(answer, request), trip_s)
                if reply.status == 503:
                    # Another connection may lead to another replica.
                    answer.close()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            failure = no_answer(error, self._proxy)
            if self._sessions.is_current(session):
                self._link.suspect(str(failure))
            raise failure from error
        return reply

    def check(self, reply: Reply, request_id: str) -> None:
        """Raises unless the relay itself has answered with success; see `check_reply`."""
        try:
            check_reply(reply, request_id)
        except Refused:
            self._record_answer(reply)
            raise
        self._record_answer(reply)

    def _record_answer(self, reply: Reply) -> None:
        self._link.record_contact()
        self.skew.record(reply.headers.get("Date"), reply.trip_s)


async def _read(answer: aiohttp.ClientResponse, request: Request) -> bytes:
    if request.sink is not None and is_success(answer.status, answer.headers, request.request_id):
        async with aclosing(body_parts(answer.content)) as parts:
            async for part in parts:
                await request.sink(part)
        return b""
    try:
        return await read_body(answer.content, limit=request.limits.max_call_bytes)
    except BodyTooLarge:
        raise Refused(request.limits.answer_too_large().problem()) from None


async def _hangs(call: asyncio.Task[Reply], begun: asyncio.Event, seconds: float) -> bool:
    """Whether no part of an answer arrives within so many seconds."""
    waiting = asyncio.create_task(begun.wait())
    try:
        done, _ = await asyncio.wait({call, waiting}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return not done
    finally:
        waiting.cancel()


def _open_socket(address: AddrInfoType) -> socket.socket:
    """A socket that detects within a minute that the other end is gone, even while nothing is sent."""
    family, kind, protocol, _, _ = address
    opened = socket.socket(family, kind, protocol)
    opened.setblocking(False)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 50_000)):
        if hasattr(socket, name):
            opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return opened
