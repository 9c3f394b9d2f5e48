"""Sets of signing keys: which keys sign jobs. A newer set counts if a key of the set before has signed it. Pure."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field, ValidationError, field_validator

from edge_schemas.wire.base import Instant, Outbound
from edge_schemas.wire.jobs import MAX_SIGNATURES, Signed

KEY_SET_CONTEXT = b"edge-relay/signing-keys/v1\n"
"""Comes before the payload where it is signed; see `payload.JOB_CONTEXT`."""
KEY_BYTES = 32
KEY_ID_DIGITS = 16
MAX_SETS = 16
"""How many sets are handed out: a worker that was offline during so many changes still follows."""

Check = Callable[[Signed, bytes, Mapping[str, bytes]], bool]
"""Whether one of these keys, by id, has signed the payload in this context."""


def fingerprint(key: bytes) -> str:
    """Of a public key: what people compare."""
    return hashlib.sha256(key).hexdigest()


def key_id(key: bytes) -> str:
    """The short name of a public key in signatures."""
    return fingerprint(key)[:KEY_ID_DIGITS]


def by_id(keys: Sequence[bytes]) -> dict[str, bytes]:
    """Public keys by their ids."""
    return {key_id(key): key for key in keys}


class KeySet(Outbound):
    """The keys that sign jobs, the current one first.

    Attributes:
        serial: Rises with each change.
        keys: Public keys, in base64.
    """

    serial: int = Field(ge=1)
    keys: tuple[str, ...] = Field(min_length=1, max_length=MAX_SIGNATURES)
    made_at: Instant

    @field_validator("keys")
    @classmethod
    def _check_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            decoded_key(text)
        return value

    @property
    def public_keys(self) -> tuple[bytes, ...]:
        """The keys themselves."""
        return tuple(map(decoded_key, self.keys))


def encoded_key(key: bytes) -> str:
    """A public key as text."""
    return base64.b64encode(key).decode()


def decoded_key(text: str) -> bytes:
    """The public key that `encoded_key` wrote.

    Raises:
        ValueError: It is none.
    """
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        msg = f"a public key has {KEY_BYTES} bytes, in base64"
        raise ValueError(msg)
    return key


@dataclass(frozen=True, slots=True)
class Trust:
    """Which keys are trusted, and since which set.

    Attributes:
        keys: The current one first.
        serial: Of the set that they are from; 0 if they are from elsewhere.
    """

    keys: tuple[bytes, ...]
    serial: int = 0


def read_set(signed: Signed) -> KeySet | None:
    """The set in a payload; None if it can't be read. Nothing is checked."""
    try:
        return KeySet.model_validate_json(signed.payload)
    except ValidationError:
        return None


def follow(trust: Trust, sets: Sequence[Signed], check: Check) -> tuple[Trust, int]:
    """The trust after the sets that were offered, and how many newer ones were refused.

    Each set counts if it is newer than the one before and a key that was trusted until then has signed it.
    """
    refused = 0
    for serial, keys, signed in _in_order(sets):
        if serial <= trust.serial:
            continue
        if check(signed, KEY_SET_CONTEXT, by_id(trust.keys)):
            trust = Trust(keys, serial)
        else:
            refused += 1
    return trust, refused


def on_first_use(sets: Sequence[Signed], check: Check) -> Trust | None:
    """The trust in the newest set that was offered to a worker without keys; None if none is signed by its own key."""
    for serial, keys, signed in reversed(_in_order(sets)):
        if check(signed, KEY_SET_CONTEXT, by_id(keys)):
            return Trust(keys, serial)
    return None


def by_fingerprint(wanted: str, sets: Sequence[Signed], check: Check) -> Trust | None:
    """The trust in the key with a fingerprint and in the sets that follow; None if none that was offered has it."""
    for serial, keys, signed in reversed(_in_order(sets)):
        named = tuple(key for key in keys if fingerprint(key) == wanted)
        if named and check(signed, KEY_SET_CONTEXT, by_id(named)):
            return follow(Trust(keys, serial), sets, check)[0]
    return None


def _in_order(sets: Sequence[Signed]) -> list[tuple[int, tuple[bytes, ...], Signed]]:
    read = ((found, signed) for signed in sets[:MAX_SETS] if (found := read_set(signed)) is not None)
    return sorted(((one.serial, one.public_keys, signed) for one, signed in read), key=lambda one: one[0])
