"""Sealed values for cookies: any replica opens what another one sealed, and nobody else can make one."""

import base64
import binascii
import hashlib
import hmac
from typing import Any

import orjson

_MAC_BYTES = 32
MAX_CHARS = 4000
"""Browsers keep cookies of up to 4096 bytes."""


def seal(key: bytes, purpose: str, content: dict[str, Any]) -> str:
    """A value in the form that the browser gets. It is signed, not encrypted.

    Args:
        key: Shared by the replicas.
        purpose: A value that was sealed for one purpose can't be opened for another.
        content: Plain JSON values.
    """
    body = orjson.dumps(content)
    return base64.urlsafe_b64encode(mac(key, purpose, body) + body).rstrip(b"=").decode()


def unseal(key: bytes, purpose: str, sealed: str) -> dict[str, Any] | None:
    """The content; None if no replica has sealed this for this purpose."""
    if len(sealed) > MAX_CHARS:
        return None
    try:
        raw = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    if not hmac.compare_digest(raw[:_MAC_BYTES], mac(key, purpose, raw[_MAC_BYTES:])):
        return None
    content: dict[str, Any] = orjson.loads(raw[_MAC_BYTES:])
    return content


def mac(key: bytes, purpose: str, body: bytes) -> bytes:
    """A code that only the replicas can make."""
    return hmac.new(key, purpose.encode() + b"\n" + body, hashlib.sha256).digest()
