"""Time limits for bodies by progress: a body that moves arrives, however large it is; one that stands still ends.

A limit in total would end a large body on a slow line each time, and the call would be repeated forever.
"""

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from typing_extensions import override

STALL_S = 30.0
"""A body may stand still for so long. One that is slower than `SLOWEST_BYTES_PER_S` uses this time up bit by bit."""
SLOWEST_BYTES_PER_S = 8 * 1024
"""A body that moves at this rate, or faster, is never ended."""
PIECE_BYTES = 16 * 1024
"""A body is sent in pieces of this size: each takes a fraction of `STALL_S` at the slowest rate."""

T = TypeVar("T")


class BodyStalled(TimeoutError):
    """A body stood still, or moved too slowly for too long."""

    def __init__(self, stall_s: float) -> None:
        super().__init__(f"the body stood still for {stall_s:g} s, or was slower than {SLOWEST_BYTES_PER_S} bytes/s")


class BodyTooLarge(Exception):
    """A body has more bytes than the reader accepts."""


class _Stream(Protocol):
    async def readany(self) -> bytes: ...


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


async def read_body(stream: _Stream, *, limit: int | None = None, stall_s: float | None = None) -> bytes:
    """The whole body, however long it takes as long as it moves.

    Args:
        stream: Returns what has arrived, and nothing at its end.
        limit: The most bytes that are accepted.
        stall_s: `STALL_S` unless given.

    Raises:
        BodyStalled: It stood still.
        BodyTooLarge: It has more than `limit` bytes.
    """
    body, progress = bytearray(), Progress(stall_s)
    while True:
        chunk = await progress.step(stream.readany())
        if not chunk:
            return bytes(body)
        body += chunk
        if limit is not None and len(body) > limit:
            raise BodyTooLarge
        progress.moved(len(chunk))


class WatchedBody(io.BytesIO):
    """A body to send, in pieces.

    Args:
        content: The whole body.
        on_piece: Called with the size of each piece when it is taken, and with 0 after the last one.
    """

    def __init__(self, content: bytes, on_piece: Callable[[int], None]) -> None:
        super().__init__(content)
        self._on_piece = on_piece

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        """The next piece, of `PIECE_BYTES` at most."""
        wanted = PIECE_BYTES if size is None or size < 0 else min(size, PIECE_BYTES)
        piece = super().read(wanted)
        self._on_piece(len(piece))
        return piece


def slowest_s(size: int) -> float:
    """How long a body of this size takes at the slowest rate."""
    return size / SLOWEST_BYTES_PER_S
