"""The signature of an answer: the same for relays and keepers of all versions, and for each way to read the body."""

import pytest

from edge_schemas.gate.auth import (
    END_SIGNATURE_BYTES,
    AnswerSignature,
    check_answer,
    check_head,
    sign_answer,
    sign_head,
)

KEY = b"k" * 32
BODY = b"a large answer"
SIGNATURE = "b855230c06c2d947cb815e1530e29eebe39c67eb2cdfde52485a7099afdfcc8c"
"""As the first keepers made it."""


def test_it_is_that_of_the_first_keepers() -> None:
    assert sign_answer(KEY, "nonce", 200, BODY) == SIGNATURE
    assert check_answer(KEY, "nonce", 200, BODY, SIGNATURE)


@pytest.mark.parametrize("size", [1, 3, len(BODY)])
def test_a_body_may_be_checked_piece_by_piece(size: int) -> None:
    check = AnswerSignature(KEY, "nonce", 200)
    for start in range(0, len(BODY), size):
        assert not check.matches(SIGNATURE)
        check.add(BODY[start : start + size])
    assert check.matches(SIGNATURE)
    check.add(b"")
    assert check.matches(SIGNATURE)
    check.add(b"!")
    assert not check.matches(SIGNATURE)


@pytest.mark.parametrize(("key", "nonce", "status"), [(b"x", "nonce", 200), (KEY, "other", 200), (KEY, "nonce", 201)])
def test_it_belongs_to_one_key_request_and_status(key: bytes, nonce: str, status: int) -> None:
    check = AnswerSignature(key, nonce, status)
    check.add(BODY)
    assert not check.matches(SIGNATURE)


def test_a_header_that_is_no_text_is_refused() -> None:
    assert not check_answer(KEY, "nonce", 200, BODY, "\udcff")


def test_the_signature_behind_a_body_is_that_of_the_whole_answer() -> None:
    signature = AnswerSignature(KEY, "nonce", 200)
    signature.add(BODY)
    assert signature.value == SIGNATURE
    assert len(signature.value.encode()) == END_SIGNATURE_BYTES


HEAD_SIGNATURE = "dd67ca7359b88e6d8111a45407acc934adfe57fe4f0ea1c7126e9e08ecc855ed"
"""Of 1,000 bytes, as the first keepers that sign at the end made it."""


@pytest.mark.parametrize(
    ("key", "nonce", "status", "length", "is_right"),
    [
        (KEY, "nonce", 200, 1000, True),
        (b"x", "nonce", 200, 1000, False),
        (KEY, "other", 200, 1000, False),
        (KEY, "nonce", 201, 1000, False),
        (KEY, "nonce", 200, 1001, False),
    ],
)
def test_a_head_belongs_to_one_key_request_status_and_length(
    key: bytes, nonce: str, status: int, length: int, *, is_right: bool
) -> None:
    assert sign_head(KEY, "nonce", 200, 1000) == HEAD_SIGNATURE
    assert check_head(key, nonce, status, length, HEAD_SIGNATURE) is is_right


def test_a_head_is_no_whole_answer_and_the_other_way_round() -> None:
    """An answer can't be made to look like one of the other form."""
    assert not check_answer(KEY, "nonce", 200, BODY, sign_head(KEY, "nonce", 200, len(BODY)))
    assert not check_head(KEY, "nonce", 200, len(BODY), sign_answer(KEY, "nonce", 200, BODY))
