"""The calls of a worker to its relay: one method per route, typed in and out.

How a call fails is told in `answers`. Who may repeat what is decided in `retry`.
"""

import asyncio
import gzip
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from aiohappyeyeballs import AddrInfoType
from pydantic import BaseModel
from yarl import URL

from edge_schemas.gate.centre import WorkerFacts
from edge_schemas.wire import routes
from edge_schemas.wire.job_calls import FinishRequest, ReleaseRequest, StartRequest
from edge_schemas.wire.logs import MAX_CHUNK_BYTES, MAX_CHUNK_DECODED_BYTES, LogPosition
from edge_schemas.wire.polls import Poll, PollAnswer
from edge_schemas.wire.workers import Enrollment, EnrollRequest
from edge_worker import __version__
from edge_worker.relay.call_result import NoAnswer, Refused, Reply, judge, no_answer, parse
from edge_worker.relay.clock_skew import ClockSkew
from edge_worker.relay.link import Link
from edge_worker.relay.proxy import Proxy

CONNECT_S: Final = 10.0
CALL_S: Final = 30.0
CHECK_S: Final = 10.0
EXECUTION_S: Final = 75.0
"""Longer than the relay waits for Airflow, so that its answer comes before ours would be given up."""
AGAIN_S: Final = 12.0
"""So long without the beginning of an answer, a call is made a second time beside the first. Longer than a connection
may take: only one that stands can hang."""
EXECUTION_AGAIN_S: Final = 20.0
"""The same where Airflow answers, which may be slow itself."""
HOLD_MARGIN_S: Final = 15.0
SLOWEST_BYTES_PER_S: Final = 8 * 1024
"""A large body may take its time on a thin line; below this rate it is given up and repeated."""
_JSON: Final = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class ExecutionCall:
    """A call of a task to Airflow's Execution API.

    Attributes:
        raw_path: Percent-encoded, as the task sent it, without a leading slash.
        query: Raw, without the question mark.
        headers: Those of `FORWARDED_HEADERS` only.
        request_id: The same for every repeat.
    """

    method: str
    raw_path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    request_id: str


@dataclass(frozen=True)
class ExecutionAnswer:
    """What the Execution API answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RelayClient:
    """The way to one relay. Use as an asynchronous context manager.

    Polls have connections of their own. Those of all other calls are thrown away when the link is lost and when it is
    back: what hangs on a dead one would hang for up to a minute after everything else works again.

    Args:
        relay_url: Without a trailing slash.
        secret: The worker's credential, or an enrolment token.
        tls: Whom to trust.
        proxy: Used for every call; None connects directly.
        link: Told of each answer and of each call without one, and tells when it is lost and back.

    Attributes:
        proxy: As given.
        skew: What the answers tell of this machine's clock.
    """

    def __init__(
        self, relay_url: str, secret: str, *, tls: ssl.SSLContext, proxy: Proxy | None, link: Link | None = None
    ) -> None:
        self._base = relay_url
        self._secret = secret
        self._tls = tls
        self.proxy = proxy
        self._link = link or Link()
        self.skew = ClockSkew()
        self._polls: aiohttp.ClientSession | None = None
        self._calls: aiohttp.ClientSession | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._polls, self._calls = self._open(), self._open()
        self._link.on_state_change(self._renew)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        polls, calls, self._polls, self._calls = self._polls, self._calls, None, None
        for session in (polls, calls):
            if session is not None:
                await session.close()
        await asyncio.gather(*self._closing)

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls, keepalive_timeout=30, socket_factory=_open_socket)
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            # The proxy is resolved by us; with trust_env aiohttp would also send passwords of ~/.netrc to the relay.
            trust_env=False,
            headers={"User-Agent": f"edge-worker/{__version__}"},
        )

    def _renew(self) -> None:
        """Calls that are under way fail with `NoAnswer`, and are repeated by whoever made them."""
        if self._calls is not None:
            closing = asyncio.create_task(self._calls.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            self._calls = self._open()

    async def enroll(self, request: EnrollRequest) -> Enrollment:
        """Trades the enrolment token for an identity."""
        return parse(Enrollment, await self._post(routes.ENROLL, request))

    async def poll(self, poll: Poll) -> PollAnswer | None:
        """Reports and waits for up to `poll_timeout_s`; None means that there is nothing to do."""
        timeout = aiohttp.ClientTimeout(total=poll.poll_timeout_s + HOLD_MARGIN_S, sock_connect=CONNECT_S)
        reply = await self._call("POST", routes.POLL, body=_content(poll), headers=_JSON, timeout=timeout, is_poll=True)
        return None if reply.status == 204 else parse(PollAnswer, reply)

    async def check(self) -> None:
        """Asks whether the relay answers at all."""
        timeout = aiohttp.ClientTimeout(total=CHECK_S, sock_connect=CONNECT_S)
        await self._call("GET", routes.HEALTHZ, body=b"", headers={}, timeout=timeout)

    async def look(self, path: str, *, timeout_s: float) -> tuple[Reply, str]:
        """Gets what is at a path, without showing the credential, and whoever answers.

        Returns:
            The answer and the request id with which `judge` tells whose it is.
        """
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)
        request_id = secrets.token_hex(16)
        reply = await self._call(
            "GET",
            path,
            body=b"",
            headers={},
            request_id=request_id,
            timeout=timeout,
            checked=False,
            is_known=False,
        )
        return reply, request_id

    async def facts(self, *, timeout_s: float = CALL_S) -> WorkerFacts:
        """What the credential is good for; changes nothing, and is no contact."""
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)
        return parse(WorkerFacts, await self._call("GET", routes.WORKER, body=b"", headers={}, timeout=timeout))

    async def start(self, job: str, request: StartRequest) -> None:
        """Confirms a grant."""
        await self._post(routes.JOB_START.format(job=job), request)

    async def finish(self, job: str, request: FinishRequest) -> None:
        """Reports that a job's processes are gone."""
        await self._post(routes.JOB_FINISH.format(job=job), request)

    async def release(self, job: str, request: ReleaseRequest) -> None:
        """Gives a granted job back."""
        await self._post(routes.JOB_RELEASE.format(job=job), request)

    async def append_log(self, job: str, offset: int, chunk: bytes) -> LogPosition:
        """Uploads log bytes, compressed if that makes them smaller.

        What is too large for one call is cut off. The answer says up to where the log is durable.
        """
        headers = {"Content-Type": "application/octet-stream"}
        chunk = chunk[:MAX_CHUNK_DECODED_BYTES]
        packed = gzip.compress(chunk, compresslevel=3, mtime=0)
        if len(packed) < len(chunk) and len(packed) <= MAX_CHUNK_BYTES:
            chunk, headers["Content-Encoding"] = packed, "gzip"
        chunk = chunk[:MAX_CHUNK_BYTES]
        path = routes.JOB_LOG.format(job=job)
        query = f"offset={offset}"
        reply = await self._ask("PUT", path, query=query, body=chunk, headers=headers, again_s=AGAIN_S)
        return parse(LogPosition, reply)

    async def execution(self, job: str, call: ExecutionCall) -> ExecutionAnswer:
        """Hands a call on to the Execution API, path and query untouched.

        Raises:
            Refused: The relay or the gate answered.
            NoAnswer: Somebody else did.
        """
        path = routes.JOB_EXECUTION.format(job=job, path=call.raw_path)
        reply = await self._ask(
            call.method,
            path,
            query=call.query,
            body=call.body,
            headers=call.headers,
            request_id=call.request_id,
            timeout=_timeout(call.body, EXECUTION_S),
            checked=False,
            again_s=EXECUTION_AGAIN_S,
        )
        if reply.headers.get(routes.ORIGIN_HEADER) != routes.EXECUTION_ORIGIN:
            self._check(reply, call.request_id)
            msg = f"an answer with status {reply.status} that is not marked as the Execution API's"
            raise NoAnswer(msg, status=reply.status)
        self._link.heard()
        return ExecutionAnswer(reply.status, reply.headers, reply.body)

    async def _post(self, path: str, body: BaseModel) -> Reply:
        return await self._ask("POST", path, body=_content(body), headers=_JSON, again_s=AGAIN_S)

    async def _ask(
        self, method: str, path: str, *, body: bytes, again_s: float, request_id: str | None = None, **rest: Any
    ) -> Reply:
        """A call that is made a second time, on another connection, if one hangs while the link is good otherwise.

        The first is not given up: it may be the relay that is slow. Both are the same call to the relay, as any repeat.
        """
        request_id = request_id or secrets.token_hex(16)
        begun = asyncio.Event()
        call = partial(self._call, method, path, body=body, request_id=request_id, **rest)
        first = asyncio.create_task(call(on_begun=begun.set))
        tries = {first}
        try:
            if await _hangs(first, begun, again_s + len(body) / SLOWEST_BYTES_PER_S) and self._link.is_proven:
                tries.add(asyncio.create_task(call()))
            while True:
                done, tries = await asyncio.wait(tries, return_when=asyncio.FIRST_COMPLETED)
                answered = [task for task in done if not isinstance(task.exception(), NoAnswer)]
                if answered or not tries:
                    return (answered or list(done))[0].result()
        finally:
            for task in tries:
                task.cancel()

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: bytes,
        headers: Mapping[str, str],
        query: str = "",
        request_id: str | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
        checked: bool = True,
        is_poll: bool = False,
        is_known: bool = True,
        on_begun: Callable[[], None] = lambda: None,
    ) -> Reply:
        session = self._polls if is_poll else self._calls
        if session is None:
            msg = "the client is not open"
            raise RuntimeError(msg)
        request_id = request_id or secrets.token_hex(16)
        ours = {routes.REQUEST_ID_HEADER: request_id}
        if is_known:
            ours["Authorization"] = f"Bearer {self._secret}"
        began = time.monotonic()
        try:
            async with session.request(
                method,
                # As it is: yarl would decode and encode the path anew.
                URL(f"{self._base}{path}{'?' if query else ''}{query}", encoded=True),
                data=body or None,
                headers={**headers, **ours},
                timeout=timeout or _timeout(body),
                allow_redirects=False,
                proxy=self.proxy.url if self.proxy else None,
                proxy_headers=self.proxy.headers if self.proxy else None,
            ) as answer:
                on_begun()
                # Of an answer, the head says when it was made; the body may be large.
                trip_s = None if is_poll else time.monotonic() - began
                reply = Reply(answer.status, answer.headers, await answer.read(), trip_s)
                if reply.status == 503:
                    # Another replica may be at the end of another connection.
                    answer.close()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            failure = no_answer(error, self.proxy)
            if session is self._calls:
                self._link.suspect(str(failure))
            raise failure from error
        if checked:
            self._check(reply, request_id)
        return reply

    def _check(self, reply: Reply, request_id: str) -> None:
        try:
            judge(reply, request_id)
        except Refused:
            self._heard(reply)
            raise
        self._heard(reply)

    def _heard(self, reply: Reply) -> None:
        """The relay itself has answered."""
        self._link.heard()
        self.skew.heard(reply.headers.get("Date"), reply.trip_s)


async def _hangs(call: asyncio.Task[Reply], begun: asyncio.Event, seconds: float) -> bool:
    """Whether nothing of an answer has come for so long."""
    waiting = asyncio.create_task(begun.wait())
    try:
        done, _ = await asyncio.wait({call, waiting}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return not done
    finally:
        waiting.cancel()


def _content(body: BaseModel) -> bytes:
    return body.model_dump_json().encode()


def _timeout(body: bytes, base_s: float = CALL_S) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=base_s + len(body) / SLOWEST_BYTES_PER_S, sock_connect=CONNECT_S)


def _open_socket(address: AddrInfoType) -> socket.socket:
    """A socket that notices within a minute that nobody is at the other end, though nothing is being sent."""
    family, kind, protocol, _, _ = address
    opened = socket.socket(family, kind, protocol)
    opened.setblocking(False)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 50_000)):
        if hasattr(socket, name):
            opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return opened
