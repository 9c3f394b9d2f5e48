"""Bodies that are bytes: never more of them in memory than the limit, compressed or decompressed."""

import asyncio
import zlib
from collections.abc import Callable

from aiohttp import web

from edge_schemas.wire.errors import EdgeError, ErrorCode

BODY_TIMEOUT_S = 120.0
"""A slower body would keep a handler busy for no use."""
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


OnBytes = Callable[[int], None]
"""Called with the number of bytes that have arrived; what it raises ends the reading."""


def ignore_bytes(_: int) -> None:
    """For callers that count nothing."""


async def read_bounded(request: web.Request, limit: int, on_bytes: OnBytes = ignore_bytes) -> bytes:
    """The body as it was sent.

    Raises:
        EdgeError: `payload_too_large`, or `rate_limited` if it does not arrive in time.
    """
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await read_whole(request, limit, on_bytes)
    except TimeoutError:
        raise EdgeError(
            ErrorCode.RATE_LIMITED, f"the body did not arrive within {BODY_TIMEOUT_S:g} s", retry_after_s=1.0
        ) from None


async def read_whole(request: web.Request, limit: int, on_bytes: OnBytes) -> bytes:
    """The body as it was sent, however long it takes.

    Raises:
        EdgeError: `payload_too_large`.
    """
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.content.iter_any():
        on_bytes(len(chunk))
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


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
