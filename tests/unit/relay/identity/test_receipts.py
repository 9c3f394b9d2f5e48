"""Receipts are opened by whoever has the key, for the job and the worker they were made for."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_relay.identity.receipts import Receipt, open_receipt, seal
from edge_schemas.wire.errors import EdgeError, ErrorCode

KEY = b"k" * 32
EXPIRES = datetime(2026, 1, 1, 0, 0, 30, 500_000, tzinfo=UTC)
RECEIPT = Receipt("$JS.ACK.EDGE_JOBS.q.1.2.3.4.5", "q", "job", "worker", EXPIRES)
SEALED = seal(KEY, RECEIPT)


def refusal(sealed: str, *, key: bytes = KEY, job: str = "job", worker: str = "worker") -> ErrorCode:
    with pytest.raises(EdgeError) as refused:
        open_receipt(key, sealed, job=job, worker=worker)
    return refused.value.code


def test_what_was_sealed_is_opened() -> None:
    assert open_receipt(KEY, SEALED, job="job", worker="worker") == RECEIPT
    assert not RECEIPT.expired(EXPIRES - timedelta(milliseconds=1))
    assert RECEIPT.expired(EXPIRES)


def test_it_fits_into_a_request_and_a_header() -> None:
    longest = Receipt("$JS.ACK." + "x" * 400, "c" * 255, "j" * 36, "w" * 63, EXPIRES)
    assert len(seal(KEY, longest)) <= 2048
    assert SEALED.isascii()


def test_for_others_it_is_worth_nothing() -> None:
    assert refusal(SEALED, worker="other") is ErrorCode.FORBIDDEN
    assert refusal(SEALED, job="other") is ErrorCode.INVALID_REQUEST
    assert refusal(SEALED, key=b"x" * 32) is ErrorCode.INVALID_REQUEST


@given(st.integers(0, len(SEALED) - 1), st.characters())
def test_no_character_of_it_can_be_changed(position: int, character: str) -> None:
    forged = SEALED[:position] + character + SEALED[position + 1 :]
    if forged == SEALED:
        return
    assert refusal(forged) is ErrorCode.INVALID_REQUEST


def test_a_receipt_has_one_form_only() -> None:
    """Also where another text holds the same bytes: the other alphabet of base64, spare bits, padding."""
    sealed = next(text for text in _receipts() if "-" in text and "_" in text and len(text) % 4)
    last = sealed[-1]
    spare = chr(ord(last) + 1)  # the last character of two or four bits
    others = [
        sealed.replace("-", "+"),
        sealed.replace("_", "/"),
        sealed + "=" * (-len(sealed) % 4),
        sealed[:-1] + spare,
    ]
    assert _bytes_of(others[-1]) == _bytes_of(sealed)
    for other in others:
        assert refusal(other) is ErrorCode.INVALID_REQUEST


def _receipts() -> Iterator[str]:
    for number in range(1000):
        receipt = Receipt(f"$JS.ACK.EDGE_JOBS.q.1.2.3.4.{number}", "q", "job", "worker", EXPIRES)
        yield seal(KEY, receipt)


def _bytes_of(sealed: str) -> bytes:
    return base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))


@given(st.text(max_size=200))
def test_nonsense_is_refused(text: str) -> None:
    assert refusal(text) is ErrorCode.INVALID_REQUEST
