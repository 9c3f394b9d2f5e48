"""nats-py's client and its error callback, mended for a connection that is to last."""

import asyncio

import nats.errors
import structlog
from nats.aio.client import Client
from typing_extensions import override

log = structlog.get_logger(__name__)


class MendedClient(Client):
    """nats-py's client, mended in two places.

    The answer to a ping whose asker has given up does not end its reading. It comes late from a server that stood still
    for some seconds. nats-py would go on without reading, and without a word, until its own pings went unanswered.

    A `tls://` address is taken at its word: to a server that asks for no TLS, or to somebody who says so in its place,
    nats-py would send the password in clear.
    """

    @override
    def _connect_command(self) -> bytes:
        server = self._current_server
        if server is not None and server.uri.scheme == "tls" and not self._server_info.get("tls_required"):
            msg = f"{server.uri.hostname} asks for no TLS: set it up there, or write nats:// if none is wanted"
            raise nats.errors.Error(msg)
        return super()._connect_command()

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
