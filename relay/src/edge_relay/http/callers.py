"""The calling worker: its bearer secret becomes a principal."""

from dataclasses import replace

import structlog
from aiohttp import web

from edge_relay.http.bearer import bearer
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.principals import Principal
from edge_relay.limits.addresses import ClientAddresses, group
from edge_relay.limits.connection_table import ConnectionTable
from edge_schemas.wire.routes import AGENT_HEADER
from edge_schemas.wire.workers import hash_secret


class Callers:
    """Authenticates workers.

    Args:
        credentials: The callers.
        connections: Notes which connections belong to known callers.
        addresses: Knows the proxies in front of the relay.
    """

    def __init__(self, credentials: Credentials, connections: ConnectionTable, addresses: ClientAddresses) -> None:
        self._credentials = credentials
        self._connections = connections
        self._addresses = addresses

    def address(self, request: web.Request) -> str:
        """Where a call came from: the client's address, not a trusted proxy's."""
        return self._addresses.client(request.remote or "", request.headers.getall("X-Forwarded-For", []))

    def recognize(self, request: web.Request, owner: str, *, is_producer: bool = False) -> None:
        """The credential in the call was accepted: its connection is no stranger's any more.

        Raises:
            EdgeError: `rate_limited`.
        """
        self._connections.recognize(request.transport, owner, is_producer=is_producer)

    async def worker(self, request: web.Request) -> Principal:
        """The calling worker; every handler of a worker's call begins with it.

        Raises:
            EdgeError: See `Credentials.worker` and `recognize`.
        """
        principal = await self._credentials.worker(bearer(request), group(self.address(request)))
        self.recognize(request, principal.worker)
        structlog.contextvars.bind_contextvars(worker=principal.worker)
        key = request.headers.get(AGENT_HEADER)
        return principal if not key else replace(principal, agent_key_hash=hash_secret(key))
