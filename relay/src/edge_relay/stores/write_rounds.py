"""Writes that can wait for a moment begin together: each write that begins alone wakes this process several times."""

import asyncio

ROUND_S = 0.25
"""A write waits for at most this long; not at all if no other write has begun for this long."""


class WriteRounds:
    """The rounds, `ROUND_S` apart or more."""

    def __init__(self) -> None:
        self._last = float("-inf")
        self._next: asyncio.Event | None = None

    async def wait(self) -> None:
        """Wait until the next round begins."""
        if self._next is None:
            loop = asyncio.get_running_loop()
            begins = self._last + ROUND_S
            if loop.time() >= begins:
                self._last = loop.time()
                return
            self._next = asyncio.Event()
            loop.call_at(begins, self._begin)
        await self._next.wait()

    def _begin(self) -> None:
        self._last = asyncio.get_running_loop().time()
        if self._next is not None:
            self._next.set()
            self._next = None
