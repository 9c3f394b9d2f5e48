"""Which key sets a worker follows. Signatures are real; `follow` itself is pure."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from edge_schemas.signing.key_sets import (
    KEY_SET_CONTEXT,
    MAX_SETS,
    KeySet,
    Trust,
    by_fingerprint,
    encoded_key,
    fingerprint,
    follow,
    on_first_use,
)
from edge_schemas.signing.payload import JOB_CONTEXT
from edge_schemas.wire.jobs import Signed
from edge_service.signing.ed25519 import LocalKey, is_signed_by, new_key_pem, read_private_keys, sign

A, B, C, STRANGER = (read_private_keys(new_key_pem())[0] for _ in range(4))


def key_set(serial: int, *keys: LocalKey, by: tuple[LocalKey, ...], context: bytes = KEY_SET_CONTEXT) -> Signed:
    content = KeySet(
        serial=serial, keys=tuple(encoded_key(key.public_key) for key in keys), made_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    return sign(content.model_dump_json(), context, by)


CHAIN = (
    key_set(1, A, by=(A,)),
    key_set(2, B, A, by=(B, A)),
    key_set(3, B, by=(B, A)),
    key_set(4, C, B, by=(C, B)),
    key_set(5, C, by=(C, B)),
)
TRUST_A = Trust((A.public_key,))


def test_a_chain_is_followed_to_its_end_from_wherever_a_worker_stands() -> None:
    for start in (
        TRUST_A,
        Trust((A.public_key,), 1),
        Trust((B.public_key, A.public_key), 2),
        Trust((B.public_key,), 3),
    ):
        assert follow(start, CHAIN, is_signed_by) == (Trust((C.public_key,), 5), 0)
    assert follow(TRUST_A, CHAIN[::-1], is_signed_by)[0].serial == 5, "in any order"


def test_what_no_trusted_key_has_signed_is_refused() -> None:
    forged = key_set(9, STRANGER, by=(STRANGER,))
    assert follow(TRUST_A, (CHAIN[0], forged), is_signed_by) == (Trust((A.public_key,), 1), 1)
    between = (CHAIN[0], CHAIN[4])
    assert follow(TRUST_A, between, is_signed_by) == (Trust((A.public_key,), 1), 1), "a set is missing in between"


def test_an_older_set_never_comes_back() -> None:
    trust = Trust((C.public_key,), 5)
    assert follow(trust, CHAIN, is_signed_by) == (trust, 0)
    again = key_set(5, A, by=(C, A))
    assert follow(trust, (again,), is_signed_by) == (trust, 0)


def test_a_signature_of_a_job_is_none_of_a_key_set() -> None:
    confused = key_set(2, STRANGER, by=(A,), context=JOB_CONTEXT)
    assert follow(TRUST_A, (confused,), is_signed_by) == (TRUST_A, 1)


def test_the_first_keys_are_those_of_the_newest_set() -> None:
    assert on_first_use(CHAIN, is_signed_by) == Trust((C.public_key,), 5)
    assert on_first_use((key_set(6, A, by=(STRANGER,)), CHAIN[0]), is_signed_by) == Trust((A.public_key,), 1)
    assert on_first_use((), is_signed_by) is None


def test_a_fingerprint_leads_to_its_key_and_on() -> None:
    named = fingerprint(A.public_key)
    assert by_fingerprint(named, CHAIN, is_signed_by) == Trust((C.public_key,), 5)
    assert by_fingerprint(fingerprint(STRANGER.public_key), CHAIN, is_signed_by) is None
    claimed = key_set(1, A, STRANGER, by=(STRANGER,))
    assert by_fingerprint(named, (claimed,), is_signed_by) is None, "the named key itself must have signed it"


def test_what_cannot_be_read_is_skipped_and_too_much_is_not_looked_at() -> None:
    odd = Signed(payload="{}", signatures=())
    assert follow(TRUST_A, (odd, *CHAIN), is_signed_by)[0].serial == 5
    assert follow(TRUST_A, (odd,) * MAX_SETS + CHAIN, is_signed_by) == (TRUST_A, 0)


@pytest.mark.parametrize("key", ["", "AAAA", "no base64", encoded_key(bytes(33))])
def test_a_key_has_32_bytes(key: str) -> None:
    with pytest.raises(ValidationError):
        KeySet(serial=1, keys=(key,), made_at=datetime.now(UTC))
