"""Time limits for bodies by progress: a body that moves arrives, however large it is; one that stands still ends.

A limit in total would end a large body on a slow line each time, and the call would be repeated forever.
"""

import asyncio
import io
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Protocol, Self, TypeVar

from typing_extensions import override

STALL_S = 30.0
"""A body may stand still for so long. One that is slower than `SLOWEST_BYTES_PER_S` uses this time up bit by bit."""
SLOWEST_BYTES_PER_S = 8 * 1024
"""A body that moves at this rate, or faster, is never ended."""
PIECE_BYTES = 16 * 1024
"""A body is sent in pieces of this size: each takes a fraction of `STALL_S` at the slowest rate."""

UNSENT_BYTES = 64 * 1024
"""What a process, and its system, keeps of a body that waits to be sent."""
HOPS = 2
"""From worker to relay, and on to the gate, which gets the body once the relay has all of it."""

T = TypeVar("T")


class BodyStalled(TimeoutError):
    """A body stood still, or moved too slowly for too long."""

    def __init__(self, stall_s: float) -> None:
        super().__init__(f"the body stood still for {stall_s:g} s, or was slower than {SLOWEST_BYTES_PER_S} bytes/s")


class BodyTooLarge(Exception):
    """A body has more bytes than the reader accepts."""


class Stream(Protocol):
    """A body that arrives."""

    async def readany(self) -> bytes:
        """What has arrived; nothing at the end."""

    def is_eof(self) -> bool:
        """Whether everything has arrived, so that reading does not wait."""


class Progress:
    """The time that a body has left: at most `stall_s`, and more again with each byte that moves."""

    def __init__(self, stall_s: float | None = None) -> None:
        self._stall_s = STALL_S if stall_s is None else stall_s
        self._clock = asyncio.get_running_loop().time
        self.deadline = self._clock() + self._stall_s
        """By the clock of the event loop."""

    def moved(self, count: int) -> None:
        """So many bytes have moved."""
        self.deadline = min(self._clock() + self._stall_s, self.deadline + count / SLOWEST_BYTES_PER_S)

    async def step(self, move: Awaitable[T]) -> T:
        """The result of what moves a part of the body.

        Raises:
            BodyStalled: It takes longer than the body has left.
        """
        timer = asyncio.timeout_at(self.deadline)
        try:
            async with timer:
                return await move
        except TimeoutError:
            if timer.expired():
                raise BodyStalled(self._stall_s) from None
            raise


async def body_parts(stream: Stream, *, stall_s: float | None = None) -> AsyncGenerator[bytes, None]:
    """What arrives of a body, as long as it moves.

    Raises:
        BodyStalled: It stood still.
    """
    progress = Progress(stall_s)
    while part := await (stream.readany() if stream.is_eof() else progress.step(stream.readany())):
        yield part
        progress.moved(len(part))


async def read_body(
    stream: Stream,
    *,
    limit: int | None = None,
    stall_s: float | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> bytes:
    """The whole body, however long it takes as long as it moves.

    Args:
        stream: Returns what has arrived, and nothing at its end.
        limit: The most bytes that are accepted.
        stall_s: `STALL_S` unless given.
        on_bytes: Called with the number of bytes that have arrived; what it raises ends the reading.

    Raises:
        BodyStalled: It stood still.
        BodyTooLarge: It has more than `limit` bytes.
    """
    body = bytearray()
    # No generator around the parts: most bodies are small and have arrived as a whole.
    progress = None if stream.is_eof() else Progress(stall_s)
    while part := await (stream.readany() if progress is None or stream.is_eof() else progress.step(stream.readany())):
        if on_bytes is not None:
            on_bytes(len(part))
        body += part
        if limit is not None and len(body) > limit:
            raise BodyTooLarge
        if progress is not None:
            progress.moved(len(part))
    return bytes(body)


async def write_body(write: Callable[[bytes], Awaitable[None]], body: bytes, progress: Progress | None = None) -> None:
    """Send a body, or a part of one, in pieces.

    Args:
        write: Sends a piece, and returns once there is room for the next one.
        body: What is sent.
        progress: Of the whole body; a new one unless given.

    Raises:
        BodyStalled: The other side has stopped reading.
    """
    progress = progress or Progress()
    for start in range(0, len(body), PIECE_BYTES):
        piece = body[start : start + PIECE_BYTES]
        await progress.step(write(piece))
        progress.moved(len(piece))


class Moving(Protocol):
    """A body that arrives while it is sent."""

    def pieces(self, progress: Progress) -> AsyncGenerator[bytes, None]:
        """The body; it moves on when it is sent, and its time is over when nothing was sent for too long."""


class Pieces(Moving, Protocol):
    """One whose length is known.

    Attributes:
        length: In bytes.
    """

    length: int


async def write_pieces(write: Callable[[bytes], Awaitable[None]], body: Moving, progress: Progress) -> None:
    """Send a body while it arrives. It is read no faster than it is sent.

    Raises:
        BodyStalled: The other side has stopped reading. What `Pieces.pieces` raises is raised, too.
    """
    async with aclosing(body.pieces(progress)) as pieces:
        async for piece in pieces:
            await write_body(write, piece, progress)


def limit_unsent(transport: asyncio.Transport | None) -> None:
    """Have a connection take more of a body while little waits to be sent: both this process and its system.

    Otherwise they hold some hundred KiB for TLS, and megabytes if the connection was fast, and take more only when a
    third or more of it was sent: at the slowest rate a body seems to stand still meanwhile.
    """
    if transport is None:
        return
    transport.set_write_buffer_limits(UNSENT_BYTES)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


class Exchange:
    """The time limit of a request and its answer, as an asynchronous context: bodies by progress, the rest in total.

    Args:
        body: Of the request.
        answer_s: From the end of the request to the beginning of the answer; more for a large body, which may still be
            on its way, and which the other side may have to pass on.

    Attributes:
        body: To be sent in place of the body; None if that is empty.
    """

    def __init__(self, body: bytes, *, answer_s: float) -> None:
        self._answer_s = answer_s + HOPS * slowest_s(len(body))
        self._left = len(body)
        self._progress: Progress | None = None
        self._is_sending = True
        self.body = _Pieces(body, self._on_piece) if body else None

    async def __aenter__(self) -> Self:
        self._timeout = asyncio.timeout(self._answer_s)
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stalled = self._is_sending and self._progress is not None and self._left > 0
        self._is_sending = False
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            if stalled:
                raise BodyStalled(STALL_S) from None
            raise TimeoutError(f"no answer within {self._answer_s:.0f} s") from None

    def begun(self) -> None:
        """The answer has begun; its body has a limit of its own: see `read_body`."""
        self._is_sending = False
        self._timeout.reschedule(None)

    def _on_piece(self, count: int) -> None:
        if not self._is_sending or self._timeout.expired():
            return
        self._progress = self._progress or Progress()
        self._progress.moved(count)
        self._left -= count
        now = asyncio.get_running_loop().time()
        self._timeout.reschedule(self._progress.deadline if self._left > 0 else now + self._answer_s)


class _Pieces(io.BytesIO):
    """A body that is read in pieces of `PIECE_BYTES` at most."""

    def __init__(self, content: bytes, on_piece: Callable[[int], None]) -> None:
        super().__init__(content)
        self._on_piece = on_piece

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(PIECE_BYTES if size is None or size < 0 else min(size, PIECE_BYTES))
        self._on_piece(len(piece))
        return piece


def slowest_s(size: int) -> float:
    """How long a body of this size takes at the slowest rate."""
    return size / SLOWEST_BYTES_PER_S
