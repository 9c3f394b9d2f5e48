"""Streams of server-sent events, passed on to browsers: few, each for a limited time, and none keeps a server alive."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, suppress

import aiohttp
import structlog
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from edge_schemas.wire.errors import EdgeError, ErrorCode

log = structlog.get_logger(__name__)

EVENT_STREAM = "text/event-stream"
MAX_STREAMS = 100
MAX_STREAMS_OF_USER = 10
LIFE_S = 900.0
"""Then the browser connects again, and its user's rights are checked again."""
STOP_CHECK_S = 1.0


class EventStreams:
    """The open streams of this process."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def admit(self, user: str, owner: AsyncExitStack) -> None:
        """Count a stream until its owner is closed.

        Raises:
            EdgeError: `rate_limited`.
        """
        if self._open.total() >= MAX_STREAMS or self._open[user] >= MAX_STREAMS_OF_USER:
            raise EdgeError(
                ErrorCode.RATE_LIMITED,
                f"there are too many open pages: {MAX_STREAMS_OF_USER} for each user, {MAX_STREAMS} in all",
                retry_after_s=30.0,
            )
        self._open[user] += 1
        owner.callback(self._forget, user)

    def _forget(self, user: str) -> None:
        self._open[user] -= 1
        if not self._open[user]:
            del self._open[user]


def pass_on(upstream: aiohttp.ClientResponse, owner: AsyncExitStack, headers: dict[str, str]) -> StreamingResponse:
    """The answer to the browser.

    Args:
        upstream: The relay's answer.
        owner: Closed when the stream has ended; closes the relay's answer.
        headers: Of the answer.
    """
    return _PassedOn(_events(upstream), owner, {**headers, "X-Accel-Buffering": "no"})


class _PassedOn(StreamingResponse):
    """Closes what it owns, however it ends: an iterator that is not read to its end would keep it open."""

    def __init__(self, events: AsyncGenerator[bytes], owner: AsyncExitStack, headers: dict[str, str]) -> None:
        super().__init__(events, headers=headers)
        self._events, self._owner = events, owner

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._events.aclose()
            await self._owner.aclose()


async def _events(upstream: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
    """What the relay sends, until it ends, its time is over or the api-server stops.

    A stop of the api-server waits for its answers. Nothing tells an answer that the server stops, so it looks.
    """
    end = time.monotonic() + LIFE_S
    while time.monotonic() < end and not is_server_stopping():
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_CHECK_S):
                try:
                    chunk = await upstream.content.readany()
                except aiohttp.ClientError as error:
                    log.debug("page_stream_broke", error=type(error).__name__)
                    return
            if not chunk:
                return
            yield chunk


def is_server_stopping() -> bool:
    """Whether uvicorn has received a signal to stop: its handler is a method of the server."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))
