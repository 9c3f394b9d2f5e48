"""Reads `EDGE_LOGS` from Airflow's threads: batches by direct get, what was read once kept in memory.

An open log page asks for the whole log every few seconds, so a page costs only what is new.
"""

import asyncio
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import orjson
import structlog

from edge_bridge.logs_text import Chunk
from edge_bridge.portal import Portal
from edge_bridge.settings import SettingsError
from edge_schemas.broker.connection import Broker, BrokerSettings, BrokerUnavailable
from edge_schemas.subjects import LOGS, OFFSET_HEADER, log_filter

log = structlog.get_logger(__name__)

PATIENCE_S = 2.0
"""How long a log page may wait for NATS."""
LOST_PATIENCE_S = 0.3
"""Once a connection was there and is away: every open page asks, and none should wait long."""
BATCH = 256
BATCH_BYTES = 1 << 20
CACHE_BYTES = 64 << 20
CACHED_LOG_BYTES = 8 << 20
"""Of one log; the rest of a longer one is read anew, while it is shown."""

LogKey = tuple[str, int]
"""Task instance id and try number."""


class LogsUnavailable(Exception):
    """NATS can't be asked now; the text is for the log page."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What is known of a log.

    Attributes:
        cursor: Stream sequence of the last chunk read.
        more: There is more behind it.
    """

    chunks: tuple[Chunk, ...] = ()
    cursor: int = 0
    size: int = 0
    more: bool = False

    def and_then(self, next_: "Stored") -> "Stored":
        """This and what was read behind it."""
        return Stored(self.chunks + next_.chunks, next_.cursor, self.size + next_.size, next_.more)


class LogStore:
    """All logs of tasks at the edge. Connects when it is first asked, anew in each process; for any thread.

    Args:
        settings: How to reach NATS; asked when it is needed, may raise `SettingsError`.
    """

    def __init__(self, settings: Callable[[], BrokerSettings]) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._reader: _Reader | None = None
        self._cache: OrderedDict[LogKey, Stored] = OrderedDict()
        self._cached_bytes = 0

    def open(self, key: LogKey) -> Iterator[Chunk] | None:
        """The chunks of a log in stored order, None if there are none. A long log is read while it is consumed.

        Raises:
            LogsUnavailable: Nothing can be said; while consuming, that the rest can't be read now.
        """
        deadline = time.monotonic() + PATIENCE_S
        known = self._cached(key)
        while True:
            try:
                known = known.and_then(self._read(key, known.cursor, deadline - time.monotonic()))
            except LogsUnavailable:
                if not known.chunks:
                    raise
                log.warning("logs_not_refreshed", ti=key[0])
                break
            if not known.more or known.size > CACHED_LOG_BYTES:
                break
        self._keep(key, known)
        return self._chunks(key, known) if known.chunks else None

    def _chunks(self, key: LogKey, known: Stored) -> Iterator[Chunk]:
        yield from known.chunks
        part = known
        while part.more:
            part = self._read(key, part.cursor, PATIENCE_S)
            yield from part.chunks

    def _read(self, key: LogKey, cursor: int, patience_s: float) -> Stored:
        return self._current_reader().read(log_filter(*key), cursor, patience_s)

    def _current_reader(self) -> "_Reader":
        with self._lock:
            # After a fork the thread and its connection belong to the parent.
            if self._reader is None or self._reader.pid != os.getpid():
                try:
                    settings = self._settings()
                except SettingsError as error:
                    raise LogsUnavailable(str(error)) from error
                self._reader = _Reader(settings)
            return self._reader

    def _cached(self, key: LogKey) -> Stored:
        with self._lock:
            if key not in self._cache:
                return Stored()
            self._cache.move_to_end(key)
            return self._cache[key]

    def _keep(self, key: LogKey, known: Stored) -> None:
        with self._lock:
            before = self._cache.pop(key, Stored())
            if before.cursor > known.cursor or known.size > CACHED_LOG_BYTES + BATCH_BYTES:
                # Another thread has read further, or one chunk was out of all proportion.
                known = before
            self._cached_bytes += known.size - before.size
            if known.chunks:
                self._cache[key] = known
            while self._cached_bytes > CACHE_BYTES:
                _, oldest = self._cache.popitem(last=False)
                self._cached_bytes -= oldest.size

    def close(self) -> None:
        """End the connection of this process."""
        with self._lock:
            reader, self._reader = self._reader, None
        if reader is not None and reader.pid == os.getpid():
            reader.close()


class _Reader:
    """A connection in a thread of its own."""

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
