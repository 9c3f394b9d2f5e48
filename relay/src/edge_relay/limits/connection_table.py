"""The open connections of a listener by their transport: a call knows only its transport."""

import asyncio

from edge_relay.limits.connections import Connection, Connections


class ConnectionTable:
    """The open connections of one listener, by transport.

    Attributes:
        counted: Their sums and limits.
    """

    def __init__(self, counted: Connections) -> None:
        self.counted = counted
        self._by_transport: dict[asyncio.BaseTransport, Connection] = {}

    def opened(self, transport: asyncio.BaseTransport, connection: Connection) -> None:
        """A connection has its transport."""
        self._by_transport[transport] = connection

    def closed(self, transport: asyncio.BaseTransport | None) -> None:
        """A transport is closed."""
        if transport is not None and (connection := self._by_transport.pop(transport, None)) is not None:
            self.counted.remove(connection)

    def recognize(self, transport: asyncio.BaseTransport | None, owner: str, *, is_producer: bool = False) -> None:
        """A call on a connection had an accepted credential.

        Raises:
            EdgeError: See `Connections.recognize`.
        """
        if transport is not None and (connection := self._by_transport.get(transport)) is not None:
            self.counted.recognize(connection, owner, is_producer=is_producer)

    def is_stranger(self, transport: asyncio.BaseTransport | None) -> bool:
        """Whether no call on this connection had an accepted credential, and its address is the client's own."""
        connection = None if transport is None else self._by_transport.get(transport)
        return connection is not None and connection.owner is None and connection.address is not None
