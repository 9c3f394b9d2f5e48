"""Sends an answer to a relay: in pieces, so that a slow relay costs no second copy."""

from collections.abc import Mapping

from aiohttp import web

from edge_service import body_progress
from edge_service.body_progress import BodyStalled, Pieces, Progress, limit_unsent, write_body, write_pieces

LARGE_BODY_BYTES = 64 * 1024
"""A larger body is sent in pieces, is passed on while it arrives, and leaves a part of the memory to smaller ones."""
RELAY_GONE = 499
_RELAY_PAUSES = 4
"""How much longer than its worker a relay may stand still. The relay ends what stands still. To the keeper it reads in
large steps: at the slowest rate of a worker, more than `STALL_S` may pass between two of them."""


async def send(
    request: web.Request, status: int, headers: Mapping[str, str], body: bytes | Pieces
) -> web.StreamResponse:
    """Send an answer. If it can't be sent whole, the connection is closed: the relay knows that bytes are missing."""
    if isinstance(body, bytes) and len(body) <= LARGE_BODY_BYTES:
        return web.Response(status=status, body=body, headers=dict(headers))
    response = web.StreamResponse(status=status, headers=dict(headers))
    response.content_length = len(body) if isinstance(body, bytes) else body.length
    progress = Progress(_RELAY_PAUSES * body_progress.STALL_S)
    try:
        await response.prepare(request)
        limit_unsent(request.transport)
        if isinstance(body, bytes):
            await write_body(response.write, body, progress)
        else:
            await write_pieces(response.write, body, progress)
    except (ConnectionError, BodyStalled):
        # The relay is gone, or not all of the answer has arrived. aiohttp would report an error of the gate.
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=RELAY_GONE)
    return response
