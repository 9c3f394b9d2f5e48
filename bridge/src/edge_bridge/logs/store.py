"""Reads `EDGE_LOGS` from Airflow's threads, in batches by direct get, and caches what was read.

An open log page requests the whole log every few seconds: with the cache only new chunks are read.
"""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import structlog

from edge_bridge.logs.found import PATIENCE_S, LogsUnavailable, Stored
from edge_bridge.logs.text import Chunk
from edge_broker.subjects import log_filter

if TYPE_CHECKING:
    from edge_bridge.logs.reader import LogReader
    from edge_broker.connection.settings import BrokerSettings

log = structlog.get_logger(__name__)

CACHE_BYTES = 64 << 20
CACHED_LOG_BYTES = 8 << 20
"""For one log; the rest of a longer log is read again whenever it is shown."""

LogKey = tuple[str, int]
"""Task instance id and try number."""


class StoredLogs:
    """All logs of tasks at the edge. Connects at the first read, once in each process; for any thread.

    Args:
        settings: Returns the connection settings; called at the first read, may raise `SettingsError`.
    """

    def __init__(self, settings: "Callable[[], BrokerSettings]") -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._reader: LogReader | None = None
        self._cache: OrderedDict[LogKey, Stored] = OrderedDict()
        self._cached_bytes = 0

    def open(self, key: LogKey) -> Iterator[Chunk] | None:
        """The chunks of a log in stored order, None if there are none. A long log is read while it is consumed.

        Raises:
            LogsUnavailable: The log can't be read now; while it is consumed: the rest can't be read now.
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

    def _current_reader(self) -> "LogReader":
        from edge_bridge.logs.reader import LogReader
        from edge_bridge.settings import SettingsError

        with self._lock:
            if self._reader is None or self._reader.pid != os.getpid():
                try:
                    settings = self._settings()
                except SettingsError as error:
                    raise LogsUnavailable(str(error)) from error
                self._reader = LogReader(settings)
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
            if before.cursor > known.cursor or known.size > 2 * CACHED_LOG_BYTES:
                # Another thread has read further, or the last chunk was much too large.
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
