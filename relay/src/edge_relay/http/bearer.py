"""The secret with which a call shows who makes it."""

from aiohttp import web

from edge_schemas.wire.errors import EdgeError, ErrorCode


def bearer(request: web.Request) -> str:
    """The secret in the request.

    Raises:
        EdgeError: `unauthenticated`: there is none.
    """
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise EdgeError(ErrorCode.UNAUTHENTICATED, "send 'Authorization: Bearer' with the credential")
    return secret.strip()
