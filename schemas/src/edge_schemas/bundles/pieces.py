"""Pieces of files: at most 512 KiB, named by the SHA-256 of their bytes, stored and sent as one zstd frame each."""

import hashlib
import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE_BYTES = 512 * 1024
"""A frame of so many bytes fits into a message of NATS, whose default limit is 1 MiB."""
MAX_FRAME_BYTES = PIECE_BYTES + 16 * 1024
"""A frame of bytes that can't be compressed is a little longer than they are."""
LEVEL = 9
"""A version is compressed once and fetched by many workers."""


LENGTH_BYTES = 4
"""Before each frame in an answer with several: how many bytes it has, the highest byte first."""


class PieceRefused(Exception):
    """The frame does not hold this piece: it was damaged or altered on its way. It is fetched again."""


def piece_digest(data: bytes) -> str:
    """The name of a piece."""
    return hashlib.sha256(data).hexdigest()


def pack_piece(data: bytes) -> bytes:
    """The frame of a piece."""
    return make_frame(data)


def open_piece(frame: bytes, digest: str, size: int) -> bytes:
    """The bytes of the piece with this digest and size.

    Raises:
        PieceRefused: The frame holds something else.
    """
    data = open_frame(frame, size)
    if data is None or len(data) != size:
        raise PieceRefused(f"piece {digest}: not {size} bytes in one zstd frame")
    if piece_digest(data) != digest:
        raise PieceRefused(f"piece {digest}: its bytes have another digest")
    return data


def length_of(frame: bytes) -> bytes:
    """What is sent before a frame."""
    return len(frame).to_bytes(LENGTH_BYTES, "big")


def make_frame(data: bytes, level: int = LEVEL) -> bytes:
    """One zstd frame with these bytes."""
    return zstd.compress(data, level=level)


def open_frame(frame: bytes, max_bytes: int) -> bytes | None:
    """What one zstd frame holds, at most so many bytes; None if it holds more, or is not exactly one frame."""
    decompressor = zstd.ZstdDecompressor()
    try:
        data = decompressor.decompress(frame, max_length=max_bytes + 1)
    except zstd.ZstdError:
        return None
    return data if decompressor.eof and not decompressor.unused_data and len(data) <= max_bytes else None
