"""A key that all replicas share. The first replica creates it; it is written to `edge_access` only."""

import asyncio
import base64
import secrets

import structlog

from edge_broker.bucket import Bucket, RevisionConflict
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.subjects import ACCESS_BUCKET

log = structlog.get_logger(__name__)

KEY_BYTES = 32
_RETRY_S = 0.5


class SharedKey:
    """One key.

    Args:
        broker: The connection.
        name: Of the key in `edge_access`; each purpose has a key of its own.
    """

    def __init__(self, broker: Broker, name: str) -> None:
        self._broker = broker
        self._bucket = Bucket(broker, ACCESS_BUCKET)
        self._name = name
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

    async def run(self) -> None:
        """Read the key as soon as the broker can be reached."""
        while True:
            await self._broker.wait_connected()
            try:
                await self.get()
                return
            except BrokerUnavailable as error:
                log.debug("shared_key_not_read", key=self._name, error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def _read_or_create(self) -> bytes:
        stored = await self._bucket.get(self._name)
        if stored.value is not None:
            return base64.b64decode(stored.value)
        key = secrets.token_bytes(KEY_BYTES)
        try:
            await self._bucket.put(self._name, base64.b64encode(key), revision=stored.revision)
        except RevisionConflict:
            return await self._read_or_create()
        return key
