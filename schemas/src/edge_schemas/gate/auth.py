"""How relay and gate authenticate each other, over plain internal HTTP, with one shared secret.

The relay signs each request, the gate each answer; the secret itself never travels. The answer's signature covers the
request's nonce, so an answer can't be replayed to another request. This authenticates, it does not hide: where the
network between relay and keeper is not trusted, give the gate a TLS address.

An answer that is sent as a whole has one signature, in its head. One that is passed on while it arrives has two: over
status and length in the head, and behind the body the signature that is in the head otherwise. The gate sends this form
only if the relay asks for it, with `SIGNED_AT_END_HEADER`.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

SIGNATURE_HEADER = "Edge-Signature"
SIGNED_AT_END_HEADER = "Edge-Signed-At-End"
"""In a request: the relay also accepts an answer with its signature behind the body. In an answer: this is one."""
SIGNED_AT_END = "v1"
"""The value of the header, in both."""
END_SIGNATURE_BYTES = 64
"""The length of the signature behind a body; the announced length of the answer includes it."""
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
    signature = AnswerSignature(key, nonce, status)
    signature.add(body)
    return signature.matches(header)


def sign_head(key: bytes, nonce: str, status: int, length: int) -> str:
    """The signature header of an answer with a further signature behind its body, which has this length."""
    return _mac(key, "head", nonce, str(status), str(length))


def check_head(key: bytes, nonce: str, status: int, length: int, header: str) -> bool:
    """Whether the gate answers the request with this nonce, with this status and a body of this length."""
    return hmac.compare_digest(_bytes(header), sign_head(key, nonce, status, length).encode())


class AnswerSignature:
    """The signature of an answer whose body arrives piece by piece.

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

    @property
    def value(self) -> str:
        """The signature over the body so far."""
        return _answer_mac(self._key, self._nonce, self._status, self._digest.hexdigest())

    def matches(self, signature: str) -> bool:
        """Whether the gate made this answer, with exactly the body that was added, to the request with this nonce."""
        return hmac.compare_digest(_bytes(signature), self.value.encode())


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
