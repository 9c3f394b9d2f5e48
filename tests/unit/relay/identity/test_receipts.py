"""Receipts are opened by whoever has the key, for the job and the worker they were made for."""

import base64
import re
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
    if _decoded(forged) == _decoded(SEALED):
        assert open_receipt(KEY, forged, job="job", worker="worker") == RECEIPT, "spare bits of the last character"
    else:
        assert refusal(forged) is ErrorCode.INVALID_REQUEST


def _decoded(sealed: str) -> bytes | None:
    """The bytes, or None if these are no URL-safe characters."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", sealed):
        return None
    return base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))


@given(st.text(max_size=200))
def test_nonsense_is_refused(text: str) -> None:
    assert refusal(text) is ErrorCode.INVALID_REQUEST
