"""Batches of log chunks by direct get, asked from Airflow's threads over one connection in a thread of its own."""

import asyncio
import os

import structlog

from edge_bridge.logs.found import PATIENCE_S, LogsUnavailable, Stored
from edge_bridge.logs.text import Chunk
from edge_bridge.portal import Portal
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.connection.settings import BrokerSettings
from edge_broker.jetstream.direct_get import read_batch
from edge_broker.subjects import LOGS, OFFSET_HEADER

log = structlog.get_logger(__name__)

LOST_PATIENCE_S = 0.3
"""After a connection was lost: every open page asks, and none should wait long."""
BATCH = 256
BATCH_BYTES = 1 << 20


class LogReader:
    """A connection of this process.

    Attributes:
        pid: Of the process; after a fork, thread and connection belong to the parent.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self.pid = os.getpid()
        self._broker = Broker(settings)
        self._was_connected = False
        self._portal = Portal("edge-relay-logs")
        self._portal.start(self._hold)

    def read(self, subjects: str, cursor: int, patience_s: float) -> Stored:
        """One batch behind the cursor.

        Raises:
            LogsUnavailable: No answer in time.
        """
        if patience_s > 0:
            answer = self._portal.call(lambda: self._read(subjects, cursor, patience_s), patience_s + 0.1)
            if answer is not None:
                return answer
        raise LogsUnavailable("NATS, which holds the logs of edge tasks, does not answer at the moment")

    def close(self) -> None:
        """End the connection and its thread."""
        self._portal.stop(PATIENCE_S)

    async def _hold(self) -> None:
        async with self._broker:
            await asyncio.Event().wait()

    async def _read(self, subjects: str, cursor: int, patience_s: float) -> Stored | None:
        try:
            await self._broker.wait_connected(LOST_PATIENCE_S if self._was_connected else patience_s)
            self._was_connected = True
            async with asyncio.timeout(patience_s):
                return await _read_chunks(self._broker, subjects, cursor)
        except (BrokerUnavailable, TimeoutError) as error:
            log.warning("logs_unavailable", error=str(error))
            return None


async def _read_chunks(broker: Broker, subjects: str, cursor: int) -> Stored:
    batch = await read_batch(broker, LOGS, subjects, after=cursor, max_messages=BATCH, max_bytes=BATCH_BYTES)
    chunks = tuple(
        Chunk(message.subject.rpartition(".")[2], int(message.headers.get(OFFSET_HEADER, "0")), message.data)
        for message in batch.messages
    )
    size = sum(len(chunk.data) for chunk in chunks)
    return Stored(chunks, batch.messages[-1].sequence if batch.messages else cursor, size, batch.more)
