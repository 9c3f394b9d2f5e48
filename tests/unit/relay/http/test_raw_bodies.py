"""Bodies are never inflated beyond their bound."""

import gzip
import tracemalloc
import zlib

import pytest

from edge_relay.http.raw_bodies import decode
from edge_schemas.wire.errors import EdgeError, ErrorCode

LIMIT = 1000


@pytest.mark.parametrize("encoding", ["", "identity", "Identity"])
def test_a_plain_body_stays_as_it_is(encoding: str) -> None:
    assert decode(b"x" * LIMIT, encoding, LIMIT) == b"x" * LIMIT


@pytest.mark.parametrize("size", [0, 1, LIMIT])
def test_gzip_up_to_the_bound_is_inflated(size: int) -> None:
    assert decode(gzip.compress(b"x" * size), "gzip", LIMIT) == b"x" * size


def test_a_bomb_is_refused_without_being_inflated() -> None:
    bomb = gzip.compress(bytes(200 << 20), 9)
    tracemalloc.start()
    with pytest.raises(EdgeError) as refused:
        decode(bomb, "gzip", LIMIT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused.value.code is ErrorCode.PAYLOAD_TOO_LARGE
    assert peak < 2 << 20


@pytest.mark.parametrize(
    ("body", "encoding", "code"),
    [
        (b"x" * (LIMIT + 1), "", ErrorCode.PAYLOAD_TOO_LARGE),
        (gzip.compress(b"x" * (LIMIT + 1)), "gzip", ErrorCode.PAYLOAD_TOO_LARGE),
        (b"not gzip", "gzip", ErrorCode.INVALID_REQUEST),
        (b"", "gzip", ErrorCode.INVALID_REQUEST),
        (gzip.compress(b"x")[:-1], "gzip", ErrorCode.INVALID_REQUEST),
        (gzip.compress(b"x") + b"y", "gzip", ErrorCode.INVALID_REQUEST),
        (gzip.compress(b"x") * 2, "gzip", ErrorCode.INVALID_REQUEST),
        (zlib.compress(b"x"), "deflate", ErrorCode.UNSUPPORTED_MEDIA_TYPE),
        (b"x", "br", ErrorCode.UNSUPPORTED_MEDIA_TYPE),
        (gzip.compress(gzip.compress(b"x")), "gzip, gzip", ErrorCode.UNSUPPORTED_MEDIA_TYPE),
    ],
)
def test_refusals(body: bytes, encoding: str, code: ErrorCode) -> None:
    with pytest.raises(EdgeError) as refused:
        decode(body, encoding, LIMIT)
    assert refused.value.code is code
