"""Reads of job logs in `EDGE_LOGS` from any offset: each message names where its bytes begin."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.jetstream.direct_get import Batch, read_batch
from edge_broker.jetstream.stored import last_message
from edge_broker.subjects import LOGS, OFFSET_HEADER

MAX_READ_BYTES = 1 << 20
"""Of one answer, and a chunk more."""
MAX_CHUNKS = 256
READ_TIMEOUT_S = 8.0
KEPT_PLACES = 10_000


@dataclass(frozen=True, slots=True)
class LogPart:
    """Bytes of a log.

    Attributes:
        offset: Where they begin: later than asked for if the stream no longer has what was before.
        read: How many bytes had to be read for them.
    """

    offset: int
    data: bytes
    read: int = 0


class LogReader:
    """Reads logs. Remembers where reads have ended, so that a log is read on without a search."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._places: OrderedDict[tuple[str, int], int] = OrderedDict()

    async def read(self, subject: str, offset: int) -> LogPart:
        """Some bytes of a log from an offset; none if there are no more.

        Raises:
            BrokerUnavailable: The log can't be read.
        """
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await self._read(subject, offset)
        except TimeoutError:
            raise BrokerUnavailable("the log could not be read in time") from None

    async def _read(self, subject: str, offset: int) -> LogPart:
        # Through the leader: what is stored is found.
        last = await last_message(self._broker, LOGS, subject)
        if last is None:
            return LogPart(offset, b"")
        begins = _offset(last.headers)
        if offset >= begins:
            self._keep(subject, begins + len(last.data), last.sequence)
            return LogPart(offset, last.data[offset - begins :], len(last.data))
        place = self._places.get((subject, offset))
        read = 0
        if place is None:
            place, read = await self._search(subject, offset, last.sequence)
        batch = await self._batch(subject, place, MAX_CHUNKS)
        return self._joined(subject, offset, batch, read)

    async def _search(self, subject: str, offset: int, last: int) -> tuple[int, int]:
        """The sequence after which the message with this offset comes, and the bytes that were read for it."""
        low, high, read = 0, last, 0
        if offset == 0:
            return low, read
        # A message that begins at or before the offset is behind `low`; none such is behind `high`, but the last one.
        while high - low > 1:
            middle = (low + high) // 2
            batch = await self._batch(subject, middle, 1)
            read += sum(len(message.data) for message in batch.messages)
            if batch.messages and _offset(batch.messages[0].headers) <= offset:
                low = middle
            else:
                high = middle
        return low, read

    async def _batch(self, subject: str, after: int, most: int) -> Batch:
        return await read_batch(self._broker, LOGS, subject, after=after, max_messages=most, max_bytes=MAX_READ_BYTES)

    def _joined(self, subject: str, offset: int, batch: Batch, read: int) -> LogPart:
        """The bytes from the offset on, up to the first gap."""
        data = bytearray()
        start: int | None = None
        for message in batch.messages:
            begins = _offset(message.headers)
            read += len(message.data)
            if start is None:
                if begins + len(message.data) <= offset:
                    continue
                start = max(offset, begins)
            if begins > start + len(data):
                break
            data += message.data[start + len(data) - begins :]
            self._keep(subject, start + len(data), message.sequence)
        return LogPart(offset if start is None else start, bytes(data), read)

    def _keep(self, subject: str, end: int, sequence: int) -> None:
        """The message with this sequence ends there."""
        self._places[subject, end] = sequence
        self._places.move_to_end((subject, end))
        if len(self._places) > KEPT_PLACES:
            self._places.popitem(last=False)


def _offset(headers: Mapping[str, str]) -> int:
    return int(headers[OFFSET_HEADER])
