"""The connections of one listener: decisions and sums only, no sockets.

A connection is a stranger's until a call on it had an accepted credential. Strangers have little time and little room:
if there is none left, the stranger that has been here longest is closed, so that newcomers can always be served.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from edge_relay.limits.kinds import Limit, OnLimit
from edge_schemas.wire.errors import EdgeError, ErrorCode

STRANGERS_SHARE = 8
"""One part of so many is kept for strangers: a newcomer is one until its first call."""
WORKERS_SHARE = 4
"""One part of so many is kept for workers: a producer gets no new connection there."""
RETRY_S = 2.0


def _nothing() -> None:
    """There is nothing to close yet."""


@dataclass(eq=False, slots=True)
class Connection:
    """One accepted connection.

    Attributes:
        address: Where it comes from; None if its address says nothing about the client.
        close: Ends it at once.
        owner: Whose credential was accepted on it last; None while it is a stranger's.
    """

    address: str | None
    close: Callable[[], object] = _nothing
    owner: str | None = None


class Connections:
    """Counts the connections of a listener.

    Args:
        most: All of them.
        strangers_of_address: Strangers with one address.
        of_owner: Connections of one credential.
        on_limit: Counts what is closed and refused.
    """

    def __init__(self, *, most: int, strangers_of_address: int, of_owner: int, on_limit: OnLimit) -> None:
        self._most = most
        self._strangers_of_address = strangers_of_address
        self._of_owner = of_owner
        self._on_limit = on_limit
        self._strangers: OrderedDict[Connection, None] = OrderedDict()
        self._by_address: dict[str, OrderedDict[Connection, None]] = {}
        self._by_owner: Counter[str] = Counter()

    @property
    def strangers(self) -> int:
        """Connections on which no call had an accepted credential."""
        return len(self._strangers)

    @property
    def known(self) -> int:
        """All other connections."""
        return self._by_owner.total()

    def add(self, connection: Connection) -> None:
        """Count a new connection. The limits may close older ones."""
        if (address := connection.address) is not None:
            of_address = self._by_address.setdefault(address, OrderedDict())
            if len(of_address) >= self._strangers_of_address:
                self._end(next(iter(of_address)), Limit.CONNECTIONS_OF_ADDRESS)
                of_address = self._by_address.setdefault(address, OrderedDict())
            of_address[connection] = None
        self._strangers[connection] = None
        # There is always a stranger, at least this one: known connections never fill all the room.
        if self.strangers + self.known > self._most:
            self._end(next(iter(self._strangers)), Limit.CONNECTIONS)

    def recognize(self, connection: Connection, owner: str, *, is_producer: bool = False) -> None:
        """A call on this connection had an accepted credential.

        Args:
            connection: It may have been another owner's.
            owner: A worker's name, or what else identifies a caller.
            is_producer: It leaves room for workers.

        Raises:
            EdgeError: `rate_limited`: there are too many connections, of this owner or of all.
        """
        if connection.owner == owner:
            return
        if self._by_owner[owner] >= self._of_owner:
            self._refuse(Limit.CONNECTIONS_OF_WORKER, "this caller has too many connections")
        kept = max(1, self._most // STRANGERS_SHARE) + (self._most // WORKERS_SHARE if is_producer else 0)
        if connection.owner is None and self.known >= self._most - kept:
            self._refuse(Limit.CONNECTIONS, "this relay has too many connections")
        self.remove(connection)
        connection.owner = owner
        self._by_owner[owner] += 1

    def remove(self, connection: Connection) -> None:
        """The connection is closed; may be called twice."""
        if connection.owner is not None:
            owner, connection.owner = connection.owner, None
            self._by_owner[owner] -= 1
            if not self._by_owner[owner]:
                del self._by_owner[owner]
            return
        self._strangers.pop(connection, None)
        if connection.address is not None and (of_address := self._by_address.get(connection.address)) is not None:
            of_address.pop(connection, None)
            if not of_address:
                del self._by_address[connection.address]

    def expire(self, connection: Connection) -> None:
        """End a connection that is still a stranger's: its time for a call with a credential is over."""
        if connection in self._strangers:
            self._end(connection, Limit.FIRST_REQUEST)

    def _refuse(self, limit: Limit, why: str) -> None:
        self._on_limit(limit)
        raise EdgeError(ErrorCode.RATE_LIMITED, why, retry_after_s=RETRY_S)

    def _end(self, connection: Connection, limit: Limit) -> None:
        self._on_limit(limit)
        self.remove(connection)
        connection.close()
