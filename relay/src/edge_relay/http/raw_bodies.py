"""Bodies that are bytes: never more of them in memory than the limit, and none that stands still."""

import zlib
from collections.abc import Callable, Mapping
from functools import partial

from aiohttp import web

from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_service.body_progress import (
    PIECE_BYTES,
    BodyStalled,
    BodyTooLarge,
    Moving,
    Progress,
    limit_unsent,
    read_body,
    write_body,
    write_pieces,
)

_GZIP_WINDOW = 16 + zlib.MAX_WBITS


OnBytes = Callable[[int], None]
"""Called with the number of bytes that have arrived; what it raises ends the reading."""


async def read_bounded(
    request: web.Request,
    limit: int,
    too_large: Callable[[], EdgeError] | None = None,
    *,
    on_bytes: OnBytes | None = None,
) -> bytes:
    """The body as it was sent.

    Args:
        request: Its body is read.
        limit: In bytes.
        too_large: Makes the refusal of a larger body; without it a general one is made.
        on_bytes: Counts what arrives.

    Raises:
        EdgeError: `payload_too_large`, or `rate_limited` if it stands still: see `body_progress`.
    """
    too_large = too_large or partial(_too_large, limit)
    if (request.content_length or 0) > limit:
        raise too_large()
    try:
        return await read_body(request.content, limit=limit, on_bytes=on_bytes)
    except BodyTooLarge:
        raise too_large() from None
    except BodyStalled as error:
        raise EdgeError(ErrorCode.RATE_LIMITED, str(error), retry_after_s=1.0) from None


async def send(
    request: web.Request, status: int, headers: Mapping[str, str], body: bytes, *, closes: bool = False
) -> web.StreamResponse:
    """An answer with a body of any size.

    Args:
        request: What is answered.
        status: Of the answer.
        headers: Of the answer.
        body: Of the answer.
        closes: The connection is closed behind a large answer.

    Raises:
        ConnectionResetError: The client is gone, or has stopped reading.
    """
    if len(body) <= PIECE_BYTES or request.method == "HEAD":
        return web.Response(status=status, body=body, headers=headers)
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = len(body)
    if closes:
        response.force_close()
    await response.prepare(request)
    limit_unsent(request.transport)
    try:
        await write_body(response.write, body)
    except BodyStalled as error:
        raise ConnectionResetError(str(error)) from None
    return response


async def in_pieces(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """A large answer, once it was sent; any other one as it is.

    The server itself would wait for a client that does not read for as long as the connection lives.

    Raises:
        ConnectionResetError: See `send`.
    """
    if not isinstance(response, web.Response) or response.prepared or response.cookies:
        return response
    body = response.body
    if not isinstance(body, bytes) or len(body) <= PIECE_BYTES:
        return response
    return await send(request, response.status, response.headers, body, closes=response.keep_alive is False)


async def pass_on(
    request: web.Request, status: int, headers: Mapping[str, str], body: Moving, length: int | None
) -> web.StreamResponse:
    """An answer whose body is sent as it arrives; its length is announced if it is known.

    Raises:
        ConnectionResetError: The client is gone, or has stopped reading; or the body did not arrive as a whole. The
            connection must be closed: the client then knows that its answer is incomplete.
    """
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = length
    await response.prepare(request)
    limit_unsent(request.transport)
    try:
        await write_pieces(response.write, body, Progress())
    except BodyStalled as error:
        raise ConnectionResetError(str(error)) from None
    return response


def decode(body: bytes, encoding: str, limit: int) -> bytes:
    """The body without its content encoding.

    Args:
        body: As it was sent.
        encoding: The header's value; empty if there was none.
        limit: No more than one byte above this is ever inflated.

    Raises:
        EdgeError: `unsupported_media_type`, `payload_too_large`, or `invalid_request` if it is not gzip.
    """
    match encoding.strip().lower():
        case "" | "identity":
            decoded = body
        case "gzip":
            decoded = _gunzip(body, limit)
        case _:
            raise EdgeError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "the only content encoding is gzip")
    if len(decoded) > limit:
        raise _too_large(limit)
    return decoded


def _gunzip(body: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj(wbits=_GZIP_WINDOW)
    try:
        decoded = inflater.decompress(body, limit + 1)
    except zlib.error:
        raise EdgeError(ErrorCode.INVALID_REQUEST, "the body is not gzip") from None
    if len(decoded) <= limit and (not inflater.eof or inflater.unused_data):
        raise EdgeError(ErrorCode.INVALID_REQUEST, "the body is not one whole gzip member")
    return decoded


def _too_large(limit: int) -> EdgeError:
    return EdgeError(ErrorCode.PAYLOAD_TOO_LARGE, f"the body may have {limit} bytes")
