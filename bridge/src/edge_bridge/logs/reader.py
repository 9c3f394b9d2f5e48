"""Batches of log chunks by direct get, asked from Airflow's threads over one connection in a thread of its own."""

import asyncio
import os

import orjson
import structlog

from edge_bridge.logs.found import PATIENCE_S, LogsUnavailable, Stored
from edge_bridge.logs.text import Chunk
from edge_bridge.portal import Portal
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.connection.settings import BrokerSettings
from edge_broker.subjects import LOGS, OFFSET_HEADER

log = structlog.get_logger(__name__)

LOST_PATIENCE_S = 0.3
"""Once a connection was there and is away: every open page asks, and none should wait long."""
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
                return await _direct_get(self._broker, subjects, cursor)
        except (BrokerUnavailable, TimeoutError) as error:
            log.warning("logs_unavailable", error=str(error))
            return None


async def _direct_get(broker: Broker, subjects: str, cursor: int) -> Stored:
    """A batch direct get: several answers on one inbox, the last one a status."""
    inbox = broker.new_inbox()
    answers: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()

    async def take(message: object) -> None:
        answers.put_nowait((getattr(message, "headers", None) or {}, getattr(message, "data", b"")))

    number = await broker.subscribe(inbox, take)
    try:
        ask = {"next_by_subj": subjects, "seq": cursor + 1, "batch": BATCH, "max_bytes": BATCH_BYTES}
        await broker.send(f"$JS.API.DIRECT.GET.{LOGS}", orjson.dumps(ask), reply=inbox)
        chunks: list[Chunk] = []
        while True:
            headers, data = await answers.get()
            if (status := headers.get("Status")) is not None:
                break
            cursor = int(headers["Nats-Sequence"])
            job = headers["Nats-Subject"].rpartition(".")[2]
            chunks.append(Chunk(job, int(headers.get(OFFSET_HEADER, "0")), data))
    finally:
        await broker.unsubscribe(number)
    if status == "404":
        return Stored(cursor=cursor)
    if status != "204":
        raise BrokerUnavailable(f"a read of logs ended with status {status}")
    more = int(headers.get("Nats-Num-Pending", "0")) > 0
    return Stored(tuple(chunks), cursor, sum(len(chunk.data) for chunk in chunks), more)
