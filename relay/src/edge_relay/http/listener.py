"""A listener that accepts connections itself, so that they are counted before TLS and before their first byte."""

import asyncio
import socket
import ssl
from functools import partial
from typing import cast

import structlog
from aiohttp import web
from typing_extensions import override

from edge_relay.limits.addresses import ClientAddresses, group
from edge_relay.limits.connection_table import ConnectionTable
from edge_relay.limits.connections import Connection

log = structlog.get_logger(__name__)

BACKLOG = 1024
RETRY_S = 0.1
"""After an accept failed, for example because no file may be opened."""


class Listener:
    """Serves an application on sockets.

    Args:
        app_runner: Of the application, set up.
        connections: Counts them.
        addresses: Knows the proxies in front of the relay.
        tls: None serves plain HTTP.
        first_request_s: How long a stranger has for a call with a credential; None sets no limit.
    """

    def __init__(
        self,
        app_runner: web.AppRunner,
        connections: ConnectionTable,
        addresses: ClientAddresses,
        *,
        tls: ssl.SSLContext | None,
        first_request_s: float | None,
    ) -> None:
        if (server := app_runner.server) is None:
            raise RuntimeError("the runner is not set up")
        self._server = server
        self._connections = connections
        self._addresses = addresses
        self._tls = tls
        self._first_request_s = first_request_s
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. The calling task is cancelled if no connection can be accepted any more.

        Args:
            host: A name or an address; all addresses of a name are served.
            port: 0 for any free one.

        Raises:
            OSError: The address can't be used.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, _, _, _, address in dict.fromkeys(found):
                self._sockets.append(_bound(family, address))
        except OSError:
            self._close_sockets()
            raise
        for listening in self._sockets:
            accepting = self._keep(asyncio.create_task(self._accept(listening), name="accept"))
            accepting.add_done_callback(partial(_end_if_failed, asyncio.current_task()))
        return int(self._sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Accept no more; connections that are open stay open."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._close_sockets()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, peer = await loop.sock_accept(listening)
            except OSError as error:
                log.warning("connection_not_accepted", error=str(error))
                await asyncio.sleep(RETRY_S)
                continue
            self._begin(accepted, str(peer[0]))

    def _begin(self, accepted: socket.socket, peer: str) -> None:
        """Count a connection, and give it to the application."""
        address = None if self._addresses.is_trusted(peer) else group(peer)
        counted, connection = self._connections.counted, Connection(address)
        task = self._keep(asyncio.create_task(self._serve(accepted, connection), name="connection"))

        def ended(served: asyncio.Task[None]) -> None:
            if served.cancelled() or served.exception() is not None:
                counted.remove(connection)
                accepted.close()

        task.add_done_callback(ended)
        connection.close = task.cancel
        counted.add(connection)
        if self._first_request_s is not None and address is not None:
            asyncio.get_running_loop().call_later(self._first_request_s, counted.expire, connection)

    async def _serve(self, accepted: socket.socket, connection: Connection) -> None:
        """Ends when the application has the connection."""
        protocol = partial(_Served, self._server(), connection, self._connections)
        timeout_s = None if self._tls is None else self._first_request_s
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol, accepted, ssl=self._tls, ssl_handshake_timeout=timeout_s
            )
        except OSError as error:
            log.debug("connection_failed", error=str(error))
            raise

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _close_sockets(self) -> None:
        for listening in self._sockets:
            listening.close()
        self._sockets.clear()


class _Served(asyncio.Protocol):
    """Passes everything on to the application's protocol, and reports the end of the connection."""

    def __init__(self, inner: asyncio.Protocol, connection: Connection, table: ConnectionTable) -> None:
        self._inner = inner
        self._connection = connection
        self._table = table
        self._transport: asyncio.BaseTransport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._connection.close = cast("asyncio.Transport", transport).abort
        self._table.opened(transport, self._connection)
        self._inner.connection_made(transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._table.closed(self._transport)
        self._inner.connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    @override
    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    @override
    def pause_writing(self) -> None:
        self._inner.pause_writing()

    @override
    def resume_writing(self) -> None:
        self._inner.resume_writing()


def _end_if_failed(owner: asyncio.Task[object] | None, accepting: asyncio.Task[None]) -> None:
    """Without it the process would live on and serve nobody."""
    if not accepting.cancelled() and (error := accepting.exception()) is not None:
        log.error("listener_failed", error=repr(error))
        if owner is not None:
            owner.cancel()


def _bound(family: int, address: object) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)  # type: ignore[arg-type]  # as `getaddrinfo` returned it
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening
