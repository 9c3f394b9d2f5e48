"""Sealed receipts of grants: a worker presents its receipt at start; any replica opens what another one sealed.

A receipt names the message's ack subject, the job and the worker, and expires when the message is delivered again.
JetStream accepts an ack from any client that knows the subject; the seal keeps workers from forging a receipt.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
import structlog

from edge_broker.bucket import Bucket, RevisionConflict
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.subjects import ACCESS_BUCKET
from edge_schemas.wire.errors import EdgeError, ErrorCode

log = structlog.get_logger(__name__)

KEY_NAME = "receipt-key"
KEY_BYTES = 32
_MAC_BYTES = 32
_RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class Receipt:
    """The content of a receipt.

    Attributes:
        ack_subject: Acknowledges the message that was granted.
        consumer: Of the queue that the job came from.
        expires_at: From then on another worker may have been granted the job.
    """

    ack_subject: str
    consumer: str
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
    body = orjson.dumps([receipt.ack_subject, receipt.consumer, receipt.job, receipt.worker, expires_ms])
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
    ack_subject, consumer, made_for_job, made_for_worker, expires_ms = orjson.loads(body)
    if made_for_worker != worker:
        raise EdgeError(ErrorCode.FORBIDDEN, "the receipt was made for another worker")
    if made_for_job != job:
        raise EdgeError(ErrorCode.INVALID_REQUEST, "the receipt belongs to another job")
    return Receipt(ack_subject, consumer, job, worker, datetime.fromtimestamp(expires_ms / 1000, UTC))


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.new(key, b"receipt.v1\n" + body, hashlib.sha256).digest()


class ReceiptKey:
    """The key that all replicas share. The first replica creates it; it is written to `edge_access` only."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._bucket = Bucket(broker, ACCESS_BUCKET)
        self._key: bytes | None = None
        self.ready = asyncio.Event()

    async def get(self) -> bytes:
        """The key.

        Raises:
            BrokerUnavailable: It can't be read at the moment.
        """
        if self._key is None:
            self._key = await self._read_or_create()
            self.ready.set()
        return self._key

    async def open(self, sealed: str, *, job: str, worker: str) -> Receipt:
        """The content of a presented receipt; the caller checks whether it has expired.

        Raises:
            EdgeError: See `open_receipt`.
            BrokerUnavailable: The key can't be read at the moment.
        """
        return open_receipt(await self.get(), sealed, job=job, worker=worker)

    async def run(self) -> None:
        """Read the key as soon as the broker can be reached."""
        while True:
            await self._broker.wait_connected()
            try:
                await self.get()
                return
            except BrokerUnavailable as error:
                log.debug("receipt_key_not_read", error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def _read_or_create(self) -> bytes:
        stored = await self._bucket.get(KEY_NAME)
        if stored.value is not None:
            return base64.b64decode(stored.value)
        key = secrets.token_bytes(KEY_BYTES)
        try:
            await self._bucket.put(KEY_NAME, base64.b64encode(key), revision=stored.revision)
        except RevisionConflict:
            return await self._read_or_create()
        return key
