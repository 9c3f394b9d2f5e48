"""Writes that can wait for a moment begin together: each write that begins alone wakes this process several times."""

import asyncio
import math

ROUND_S = 0.25
"""A write waits for at most this long; not at all if no other write has begun for this long. Rounds begin at multiples
of it, by the event loop's clock: parked polls end at the same moments."""


class WriteRounds:
    """The rounds: one in `ROUND_S`, and one for a write that comes alone."""

    def __init__(self) -> None:
        self._last = float("-inf")
        self._next: asyncio.Event | None = None

    async def wait(self) -> None:
        """Wait until the next round begins."""
        if self._next is None:
            loop = asyncio.get_running_loop()
            if loop.time() >= self._last + ROUND_S:
                self._last = loop.time()
                return
            self._next = asyncio.Event()
            loop.call_at((math.floor(self._last / ROUND_S) + 1) * ROUND_S, self._begin)
        await self._next.wait()

    def _begin(self) -> None:
        self._last = asyncio.get_running_loop().time()
        if self._next is not None:
            self._next.set()
            self._next = None
