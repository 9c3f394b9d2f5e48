"""nats-py's client and its error callback, with the corrections that a lasting connection needs."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import ParseResult

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.transport import TcpTransport
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy
from typing_extensions import override

log = structlog.get_logger(__name__)


class CorrectedTransport(TcpTransport):
    """nats-py's connection, with the errors of uvloop, and without connections that are left open.

    A write to a closed connection raises a RuntimeError on uvloop. At that, nats-py stops writing, without an error and
    without a new connection: from then on each call would raise it again.

    A reconnect that fails at the server's first answers leaves its connection open; the next attempt forgets it.
    """

    def __bool__(self) -> bool:
        # nats-py would replace a transport that is not connected yet by one of its own.
        return True

    @override
    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        self.abort()
        await super().connect(uri, buffer_size, connect_timeout)

    def abort(self) -> None:
        """Close the connection, if one is left, without sending what is buffered."""
        for writer in (self._io_writer, self._bare_io_writer):
            if writer is not None:
                writer.transport.abort()

    @override
    def write(self, payload: bytes) -> None:
        with _as_connection_error():
            super().write(payload)  # type: ignore[no-untyped-call]  # nats-py leaves it unannotated

    @override
    def writelines(self, payload: Iterable[bytes]) -> None:
        with _as_connection_error():
            super().writelines(payload)  # type: ignore[no-untyped-call]  # nats-py leaves it unannotated


@contextmanager
def _as_connection_error() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ConnectionResetError(str(error)) from error


class CorrectedClient(Client):
    """nats-py's client, corrected in three places; for the third see `CorrectedTransport`.

    A PONG for a ping that has timed out does not end the read loop. It comes late from a server that stood
    still for some seconds. nats-py would stop reading without an error until its own pings had no answer.

    A `tls://` address requires TLS. nats-py would send the password in clear to a server that offers no TLS, or to an
    impostor that claims so.
    """

    def __init__(self) -> None:
        super().__init__()
        self._transport: CorrectedTransport = CorrectedTransport()  # type: ignore[no-untyped-call]  # nats-py's

    def abort(self) -> None:
        """Close the connection, if one is left: nats-py's `close` may end early, or wait for a silent server."""
        self._transport.abort()

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


class JetStreamAfter(JetStreamContext):
    """nats-py's JetStream, with subscriptions that begin after a message: its watch of a bucket has no such option."""

    def __init__(self, client: Client, after: int, *, timeout: float) -> None:
        super().__init__(client, timeout=timeout)
        self._after = after

    @override
    async def subscribe(self, *args: Any, **options: Any) -> JetStreamContext.PushSubscription:
        start = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=self._after + 1)
        return await super().subscribe(*args, **{**options, "config": start})


class ErrorLog:
    """nats-py's error callback: one line per kind of error and interval, not one per attempt."""

    EVERY_S = 10.0

    def __init__(self, role: str) -> None:
        self._role = role
        self._last: dict[str, float] = {}

    async def handle(self, error: Exception) -> None:
        """Log an error, unless the same text was logged within the interval."""
        text = f"{type(error).__name__}: {error}"
        now = asyncio.get_running_loop().time()
        if now - self._last.get(text, -self.EVERY_S) >= self.EVERY_S:
            self._last = {k: t for k, t in self._last.items() if now - t < self.EVERY_S} | {text: now}
            log.warning("broker_error", role=self._role, error=text)
