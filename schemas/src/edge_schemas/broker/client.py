"""nats-py's client and its error callback, mended for a connection that is to last."""

import asyncio

import structlog
from nats.aio.client import Client
from typing_extensions import override

log = structlog.get_logger(__name__)


class MendedClient(Client):
    """nats-py's client, but the answer to a ping whose asker has given up does not end its reading.

    It comes late from a server that stood still for some seconds. nats-py would go on without reading, and without a
    word, until its own pings went unanswered.
    """

    @override
    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            del self._pongs[0]
            self._pings_outstanding = 0
        else:
            await super()._process_pong()


class ErrorLog:
    """nats-py's error callback: one line per kind of error and stretch of time, not one per attempt."""

    EVERY_S = 10.0

    def __init__(self, role: str) -> None:
        self._role = role
        self._last: dict[str, float] = {}

    async def handle(self, error: Exception) -> None:
        """Log it, unless the same was logged a moment ago."""
        text = f"{type(error).__name__}: {error}"
        now = asyncio.get_running_loop().time()
        if now - self._last.get(text, -self.EVERY_S) >= self.EVERY_S:
            self._last = {k: t for k, t in self._last.items() if now - t < self.EVERY_S} | {text: now}
            log.warning("broker_error", role=self._role, error=text)
