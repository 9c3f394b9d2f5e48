"""Sealed receipts of grants: a worker presents its receipt at start; any replica opens what another one sealed.

A receipt names the message's ack subject, the job and the worker, and expires when the message is delivered again.
JetStream accepts an ack from any client that knows the subject; the seal keeps workers from forging a receipt.
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from edge_broker.connection.broker import Broker
from edge_relay.identity.shared_key import SharedKey
from edge_schemas.wire.errors import EdgeError, ErrorCode

KEY_NAME = "receipt-key"
_MAC_BYTES = 32


@dataclass(frozen=True, slots=True)
class Receipt:
    """The content of a receipt.

    Attributes:
        ack_subject: Acknowledges the message that was granted.
        queue: That the job came from, as a token.
        expires_at: From then on another worker may have been granted the job.
    """

    ack_subject: str
    queue: str
    job: str
    worker: str
    expires_at: datetime

    @property
    def grant(self) -> str:
        """See `grant_id`."""
        return grant_id(self.ack_subject)

    def expired(self, now: datetime) -> bool:
        """Whether the grant wait is over."""
        return now >= self.expires_at


def grant_id(ack_subject: str) -> str:
    """Identifies a grant among those of its job: each delivery of a message has its own ack subject."""
    return hashlib.sha256(ack_subject.encode()).hexdigest()[:16]


def seal(key: bytes, receipt: Receipt) -> str:
    """The receipt in the form that the worker gets."""
    expires_ms = int(receipt.expires_at.timestamp() * 1000)
    body = orjson.dumps([receipt.ack_subject, receipt.queue, receipt.job, receipt.worker, expires_ms])
    return _encode(_mac(key, body) + body)


def open_receipt(key: bytes, sealed: str, *, job: str, worker: str) -> Receipt:
    """The content of a presented receipt; the caller checks whether it has expired.

    Raises:
        EdgeError: `invalid_request` if no relay of this installation made it or it belongs to another job, `forbidden`
            if it was made for another worker.
    """
    try:
        raw = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
        if _encode(raw) != sealed:
            # The last character has bits that mean nothing: several texts would be the same receipt.
            raise binascii.Error
    except (binascii.Error, ValueError):
        raise EdgeError(ErrorCode.INVALID_REQUEST, "the receipt is malformed") from None
    mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(key, body)):
        raise EdgeError(ErrorCode.INVALID_REQUEST, "the receipt was not made by this relay")
    ack_subject, queue, made_for_job, made_for_worker, expires_ms = orjson.loads(body)
    if made_for_worker != worker:
        raise EdgeError(ErrorCode.FORBIDDEN, "the receipt was made for another worker")
    if made_for_job != job:
        raise EdgeError(ErrorCode.INVALID_REQUEST, "the receipt belongs to another job")
    return Receipt(ack_subject, queue, job, worker, datetime.fromtimestamp(expires_ms / 1000, UTC))


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.new(key, b"receipt.v1\n" + body, hashlib.sha256).digest()


class ReceiptKey(SharedKey):
    """The key of all receipts."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker, KEY_NAME)

    async def open(self, sealed: str, *, job: str, worker: str) -> Receipt:
        """The content of a presented receipt; the caller checks whether it has expired.

        Raises:
            EdgeError: See `open_receipt`.
            BrokerUnavailable: The key can't be read at the moment.
        """
        return open_receipt(await self.get(), sealed, job=job, worker=worker)
