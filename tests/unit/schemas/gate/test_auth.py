"""The signature of an answer: the same for relays and keepers of all versions, and for each way to read the body."""

import pytest

from edge_schemas.gate.auth import AnswerSignature, check_answer, sign_answer

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
