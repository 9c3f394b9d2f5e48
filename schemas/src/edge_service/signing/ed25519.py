"""Signatures are made and checked here only. `cryptography` is imported late: an agent may never need it."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edge_schemas.signing.key_sets import KEY_BYTES, key_id
from edge_schemas.wire.jobs import MAX_SIGNATURES, Signature, Signed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PRIVATE = re.compile(rb"-----BEGIN PRIVATE KEY-----[\sA-Za-z0-9+/=]+-----END PRIVATE KEY-----")
_PUBLIC = re.compile(rb"-----BEGIN PUBLIC KEY-----[\sA-Za-z0-9+/=]+-----END PUBLIC KEY-----")


class KeyUnusable(Exception):
    """A key, or what should hold keys, can't be used. The text quotes nothing of it."""


class SigningFailed(Exception):
    """Nothing could be signed now; the same may succeed later. The text says why."""


class SigningKey(Protocol):
    """A key that signs. Its private part may be in another machine."""

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of the public key."""

    def sign(self, data: bytes) -> bytes:
        """The 64 bytes of the signature. May wait for a network, and raise any exception."""


@dataclass(frozen=True, slots=True, repr=False)
class LocalKey:
    """A key of this machine; see `SigningKey`."""

    public_key: bytes
    _private: "Ed25519PrivateKey"

    def sign(self, data: bytes) -> bytes:
        """See `SigningKey`."""
        return self._private.sign(data)


def new_key_pem() -> bytes:
    """A new private key, as PEM."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private = Ed25519PrivateKey.generate()
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_private_keys(pem: bytes) -> tuple[LocalKey, ...]:
    """The private keys of a file, in its order.

    Raises:
        KeyUnusable: There is none, there are too many, or one is no Ed25519 key without a passphrase.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    keys = []
    for block in private_blocks(pem):
        try:
            key = load_pem_private_key(block, password=None)
        except (ValueError, TypeError) as error:
            raise KeyUnusable(f"a private key can't be read ({type(error).__name__})") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyUnusable("a private key is no Ed25519 key")
        keys.append(LocalKey(key.public_key().public_bytes_raw(), key))
    return tuple(keys)


def private_blocks(pem: bytes) -> list[bytes]:
    """The private keys of a file as they are written there, in its order.

    Raises:
        KeyUnusable: There is none, or there are too many.
    """
    return _blocks(_PRIVATE, pem, "private key")


def read_public_keys(pem: bytes) -> tuple[bytes, ...]:
    """The public keys of a file, in its order.

    Raises:
        KeyUnusable: There is none, there are too many, or one is no Ed25519 key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    keys = []
    for block in _blocks(_PUBLIC, pem, "public key"):
        try:
            key = load_pem_public_key(block)
        except ValueError as error:
            raise KeyUnusable(f"a public key can't be read ({type(error).__name__})") from None
        if not isinstance(key, Ed25519PublicKey):
            raise KeyUnusable("a public key is no Ed25519 key")
        keys.append(key.public_bytes_raw())
    return tuple(keys)


def public_pem(key: bytes) -> bytes:
    """A public key as PEM."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return Ed25519PublicKey.from_public_bytes(key).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _blocks(pattern: re.Pattern[bytes], pem: bytes, what: str) -> list[bytes]:
    blocks = pattern.findall(pem)
    if not blocks:
        raise KeyUnusable(f"there is no {what} in PEM form")
    if len(blocks) > MAX_SIGNATURES:
        raise KeyUnusable(f"there are more than {MAX_SIGNATURES} keys")
    return blocks


def sign(payload: str, context: bytes, keys: Sequence[SigningKey]) -> Signed:
    """The payload with a signature by each key.

    Raises:
        SigningFailed: A key could not sign.
    """
    data = context + payload.encode()
    signatures = []
    for key in keys:
        try:
            value = key.sign(data)
            name = key_id(key.public_key)
        except Exception as error:
            raise SigningFailed(f"a signing key failed: {type(error).__name__}: {error}"[:500]) from error
        signatures.append(Signature(key=name, value=base64.b64encode(value).decode()))
    return Signed(payload=payload, signatures=tuple(signatures))


def is_signed_by(signed: Signed, context: bytes, keys: Mapping[str, bytes]) -> bool:
    """Whether one of these keys, by id, has signed the payload in this context."""
    data = context + signed.payload.encode(errors="replace")
    return any(
        _is_valid(keys[signature.key], signature.value, data)
        for signature in signed.signatures
        if signature.key in keys
    )


def _is_valid(key: bytes, signature: str, data: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    assert len(key) == KEY_BYTES  # noqa: S101  # checked where it was read
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(base64.b64decode(signature, validate=True), data)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
