"""Who is calling: the bearer secret of a request becomes a worker or an operator."""

import structlog
from aiohttp import web

from edge_relay.http import keys
from edge_relay.identity.credentials import Principal
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import AccessTokenEntry


def bearer(request: web.Request) -> str:
    """The secret that came with a call.

    Raises:
        EdgeError: `unauthenticated`: there is none.
    """
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise EdgeError(ErrorCode.UNAUTHENTICATED, "send 'Authorization: Bearer' with the credential")
    return secret.strip()


async def require_worker(request: web.Request) -> Principal:
    """The calling worker; the first thing that every handler of a worker's call does.

    Raises:
        EdgeError: See `Credentials.worker`.
    """
    principal = await request.app[keys.CREDENTIALS].worker(bearer(request))
    structlog.contextvars.bind_contextvars(worker=principal.worker)
    return principal


async def require_operator(request: web.Request) -> AccessTokenEntry:
    """The calling operator; the first thing that every handler under /v1/admin does.

    Raises:
        EdgeError: See `Credentials.operator`.
    """
    entry = await request.app[keys.CREDENTIALS].operator(bearer(request))
    structlog.contextvars.bind_contextvars(operator=entry.name)
    return entry
