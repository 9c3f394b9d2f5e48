"""How relay and gate authenticate each other, over plain internal HTTP, with one shared secret.

The relay signs each request, the gate each answer; the secret itself never travels. The answer's signature covers the
request's nonce, so an answer can't be replayed to another request. This authenticates, it does not hide: where the
network between relay and keeper is not trusted, give the gate a TLS address.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

SIGNATURE_HEADER = "Edge-Signature"
MAX_SKEW_S = 60
_SCHEME = "v1"
_STAMP = re.compile(r"[0-9]{1,15}\Z")


@dataclass(frozen=True, slots=True)
class GateCall:
    """The signed parts of a call from the relay to the gate.

    Attributes:
        target: Raw path and query.
        worker: The worker whose credential the relay has checked.
    """

    method: str
    target: str
    worker: str
    request_id: str
    body: bytes


def sign_call(key: bytes, call: GateCall, *, now: float) -> tuple[str, str]:
    """The signature header of a request, and the nonce with which its answer is checked."""
    nonce = secrets.token_urlsafe(16)
    stamp = str(int(now))
    return f"{_SCHEME};{stamp};{nonce};{_call_mac(key, call, stamp, nonce)}", nonce


def check_call(key: bytes, call: GateCall, header: str, *, now: float) -> str | None:
    """The nonce of a request whose signature is right and fresh, else None."""
    parts = header.split(";")
    if len(parts) != 4 or parts[0] != _SCHEME or not _STAMP.match(parts[1]):
        return None
    _, stamp, nonce, mac = parts
    if abs(now - int(stamp)) > MAX_SKEW_S:
        return None
    return nonce if hmac.compare_digest(_bytes(mac), _call_mac(key, call, stamp, nonce).encode()) else None


def sign_answer(key: bytes, nonce: str, status: int, body: bytes) -> str:
    """The signature header of an answer."""
    return _answer_mac(key, nonce, status, hashlib.sha256(body).hexdigest())


def check_answer(key: bytes, nonce: str, status: int, body: bytes, header: str) -> bool:
    """Whether the gate made this answer to the request with this nonce."""
    check = AnswerCheck(key, nonce, status)
    check.add(body)
    return check.matches(header)


class AnswerCheck:
    """Checks an answer whose body arrives piece by piece.

    Args:
        key: The shared secret.
        nonce: Of the request.
        status: Of the answer.
    """

    def __init__(self, key: bytes, nonce: str, status: int) -> None:
        self._key = key
        self._nonce = nonce
        self._status = status
        self._digest = hashlib.sha256()

    def add(self, piece: bytes) -> None:
        """The next part of the body."""
        self._digest.update(piece)

    def matches(self, header: str) -> bool:
        """Whether the gate made this answer, with exactly the body that was added, to the request with this nonce."""
        mac = _answer_mac(self._key, self._nonce, self._status, self._digest.hexdigest())
        return hmac.compare_digest(_bytes(header), mac.encode())


def _answer_mac(key: bytes, nonce: str, status: int, digest: str) -> str:
    return _mac(key, "answer", nonce, str(status), digest)


def _call_mac(key: bytes, call: GateCall, stamp: str, nonce: str) -> str:
    digest = hashlib.sha256(call.body).hexdigest()
    return _mac(key, "call", stamp, nonce, call.method, call.target, call.worker, call.request_id, digest)


def _bytes(text: str) -> bytes:
    """HTTP libraries put bytes that are not UTF-8 into a string as lone surrogates, which plain UTF-8 rejects."""
    return text.encode(errors="surrogatepass")


def _mac(key: bytes, *parts: str) -> str:
    return hmac.new(key, _bytes("\n".join(parts)), hashlib.sha256).hexdigest()
