"""The caller of a request: its bearer secret becomes a worker or an operator."""

from dataclasses import replace

import structlog
from aiohttp import web

from edge_relay.identity.credentials import Credentials, Principal
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.routes import AGENT_HEADER
from edge_schemas.wire.workers import AccessTokenEntry, hash_secret


def bearer(request: web.Request) -> str:
    """The secret in the request.

    Raises:
        EdgeError: `unauthenticated`: there is none.
    """
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise EdgeError(ErrorCode.UNAUTHENTICATED, "send 'Authorization: Bearer' with the credential")
    return secret.strip()


class Callers:
    """Authenticates callers."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def worker(self, request: web.Request) -> Principal:
        """The calling worker; every handler of a worker's call begins with it.

        Raises:
            EdgeError: See `Credentials.worker`.
        """
        principal = await self._credentials.worker(bearer(request))
        structlog.contextvars.bind_contextvars(worker=principal.worker)
        key = request.headers.get(AGENT_HEADER)
        return principal if not key else replace(principal, agent_key_hash=hash_secret(key))

    async def operator(self, request: web.Request) -> AccessTokenEntry:
        """The calling operator; every handler under /v1/admin begins with it.

        Raises:
            EdgeError: See `Credentials.operator`.
        """
        entry = await self._credentials.operator(bearer(request))
        structlog.contextvars.bind_contextvars(operator=entry.name)
        return entry
