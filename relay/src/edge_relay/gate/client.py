"""Calls a keeper's gate for a task: the call is signed, the answer checked; if one keeper is down, the next is called.

The relay itself does not reach Airflow and holds no token: it sends the worker's request and the worker's name.
"""

import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import structlog
from yarl import URL

from edge_relay.gate.answers import WINDOW_BYTES, GateAnswer, split_signature, streamed_body
from edge_relay.settings import Settings, SettingsError
from edge_schemas.gate.auth import (
    SIGNATURE_HEADER,
    SIGNED_AT_END,
    SIGNED_AT_END_HEADER,
    GateCall,
    check_answer,
    sign_call,
)
from edge_schemas.gate.limits import DEFAULT_LIMITS, CallLimits
from edge_schemas.wire.errors import TOO_LARGE_STATUSES, EdgeError, ErrorCode
from edge_schemas.wire.routes import FORWARDED_HEADERS, ORIGIN_HEADER, REQUEST_ID_HEADER, WORKER_HEADER
from edge_service.body_memory import UNCOUNTED, Memory, read_counted
from edge_service.body_progress import BodyTooLarge, Exchange
from edge_service.threads import hashed

log = structlog.get_logger(__name__)

CALL_TIMEOUT_S = 60.0
"""Until an answer begins: the gate reads Airflow's database and waits for the api-server, which may be slow."""
CONNECT_TIMEOUT_S = 3.0
RETRY_AFTER_S = 2.0
PASSED_BACK = ("Content-Type", "Content-Range", ORIGIN_HEADER)
"""All other headers are dropped, above all a refreshed token. `Content-Range` has the length of a mapped XCom."""


class _Away(Exception):
    """This keeper gave no valid answer; another one may."""


class GateClient:
    """One connection pool to all keepers. Use as an asynchronous context manager.

    Args:
        urls: Base addresses of the keepers' gates, without a path.
        key: The secret shared with the keepers.
        timeout_s: Until the answer to a call begins; bodies may take longer as long as they move.
        limits: Of the answers.
        ca_file: PEM CA file for `https://` addresses; None uses the machine's CAs.
        clock: Unix time; signatures contain it.
    """

    def __init__(
        self,
        urls: Sequence[str],
        key: bytes,
        *,
        timeout_s: float = CALL_TIMEOUT_S,
        limits: CallLimits = DEFAULT_LIMITS,
        ca_file: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._urls = tuple(url.rstrip("/") for url in urls)
        self._key = key
        self._timeout_s = timeout_s
        self._limits = limits
        self._tls = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
        self._clock = clock
        self._good = 0
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """A client for the gates in the settings, or None if there are none.

        Raises:
            SettingsError: A file can't be read.
        """
        if not settings.gate_urls:
            return None
        try:
            return cls(
                settings.gate_urls,
                settings.gate_key(),
                timeout_s=settings.gate_timeout_s,
                limits=settings.call_limits(),
                ca_file=settings.gate_ca_file,
            )
        except OSError as error:
            raise SettingsError(f"RELAY_GATE_CA_FILE: can't use {settings.gate_ca_file}: {error}") from error

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._tls, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            # An answer's signature covers the bytes as they were sent.
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "edge-relay"},
            # Calls inside the centre use neither proxies nor ~/.netrc.
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(self, call: GateCall, headers: Mapping[str, str]) -> GateAnswer:
        """The whole answer to a call of the relay's own; see `streamed`."""
        async with AsyncExitStack() as stack:
            return await self._first_valid(call, headers, None, stack)

    @asynccontextmanager
    async def streamed(self, call: GateCall, headers: Mapping[str, str], memory: Memory) -> AsyncIterator[GateAnswer]:
        """The answer to a call, from the first keeper that gives a valid one. A large body is read while inside.

        The gate recognises a repeat by the request id, so a call whose connection broke may go to the next keeper.

        Args:
            call: The signed part of the call.
            headers: Of the worker's request; only `FORWARDED_HEADERS` are sent.
            memory: Counts the bytes of the answer that are in memory.

        Raises:
            EdgeError: `payload_too_large`; `gate_unavailable`, or `rate_limited` by `memory`: the worker repeats the
                call with the same request id.
        """
        async with AsyncExitStack() as stack:
            yield await self._first_valid(call, headers, memory, stack)

    async def _first_valid(
        self, call: GateCall, headers: Mapping[str, str], memory: Memory | None, stack: AsyncExitStack
    ) -> GateAnswer:
        sent = {name: headers[name] for name in FORWARDED_HEADERS if name in headers}
        # The first keeper is tried twice: a kept-alive connection that it has closed is noticed only now.
        for turn in range(len(self._urls) + 1):
            index = (self._good + turn) % len(self._urls)
            try:
                answer = await self._ask(self._urls[index], call, sent, memory, stack)
            except _Away as error:
                log.warning("gate_call_failed", gate=self._urls[index], error=str(error))
                continue
            self._good = index
            if answer.streamed is not None:
                # The worker repeats the call: it goes to another keeper, as if none of this answer had arrived.
                answer.streamed.on_broken = partial(self._avoid, index)
            return answer
        raise _unavailable("no keeper answers at the moment")

    def _avoid(self, index: int) -> None:
        if self._good == index:
            self._good = (index + 1) % len(self._urls)

    async def _ask(
        self, base: str, call: GateCall, headers: Mapping[str, str], memory: Memory | None, stack: AsyncExitStack
    ) -> GateAnswer:
        """The answer of one keeper. Its body is streamed if it is large and `memory` is given."""
        sign = partial(sign_call, self._key, call, now=self._clock())
        signature, nonce = await hashed(sign, len(call.body))
        assert self._session is not None  # noqa: S101  # used only within its context
        ours = {SIGNATURE_HEADER: signature, WORKER_HEADER: call.worker, REQUEST_ID_HEADER: call.request_id}
        try:
            reply = await _begin(self._session, base, call, {**headers, **ours}, self._timeout_s)
            stack.callback(reply.close)
            passed = {name: reply.headers[name] for name in PASSED_BACK if name in reply.headers}
            if memory is not None and (streamed := streamed_body(reply, self._key, nonce, self._limits)) is not None:
                memory.add(WINDOW_BYTES)
                stack.callback(memory.remove, WINDOW_BYTES)
                return GateAnswer(reply.status, passed, streamed=streamed)
            body = await read_counted(reply.content, self._limits.max_call_bytes, memory or UNCOUNTED)
        except aiohttp.ConnectionTimeoutError as error:
            raise _Away(f"no connection within {CONNECT_TIMEOUT_S:g} s") from error
        except TimeoutError:
            # The keeper may still be processing the call: another keeper would only double the load.
            raise _unavailable("the gate did not answer in time") from None
        except BodyTooLarge:
            raise self._limits.answer_too_large() from None
        except (aiohttp.ClientError, OSError) as error:
            raise _Away(f"{type(error).__name__}: {error}") from error
        if reply.status in TOO_LARGE_STATUSES and SIGNATURE_HEADER not in reply.headers:
            text = f"the gate, or a server before it, has a lower limit than the relay: status {reply.status}"
            raise EdgeError(ErrorCode.PAYLOAD_TOO_LARGE, text)
        body, signature = split_signature(reply, body)
        is_right = partial(check_answer, self._key, nonce, reply.status, body, signature)
        if not await hashed(is_right, len(body)):
            raise _Away(f"an answer with status {reply.status} that is not signed with our key")
        return GateAnswer(reply.status, passed, body)


def _unavailable(why: str) -> EdgeError:
    return EdgeError(ErrorCode.GATE_UNAVAILABLE, why, retry_after_s=RETRY_AFTER_S)


async def _begin(
    session: aiohttp.ClientSession, base: str, call: GateCall, headers: Mapping[str, str], timeout_s: float
) -> aiohttp.ClientResponse:
    """Send a call to one keeper; returns the beginning of the answer."""
    async with Exchange(call.body, answer_s=timeout_s) as exchange:
        reply = await session.request(
            call.method,
            # Unchanged: yarl would decode the path and encode it again.
            URL(f"{base}{call.target}", encoded=True),
            data=exchange.body,
            headers={**headers, SIGNED_AT_END_HEADER: SIGNED_AT_END},
            skip_auto_headers=("Content-Type",),
            allow_redirects=False,
        )
        exchange.begun()
        return reply
