"""A bucket, or part of one, kept in memory: listed once, then followed.

Lists again after every connection and from time to time: a watch may lose its consumer without an error. Readers that
need the current value (who holds a job?) read through the leader instead.
"""

import asyncio
from collections.abc import Callable

import nats.errors
import structlog
from nats.js.kv import KeyValue

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_service import task_cleanup

log = structlog.get_logger(__name__)

RELIST_S = 120.0
LIST_TIMEOUT_S = 30.0

OnChange = Callable[[str, bytes | None], None]
"""Key and new value, None when the key was deleted. May be called again for the same value, and for the deletion of
a key that was never reported. Called in the event loop; must not block."""


class WatchedBucket:
    """Follows the keys of a bucket. Run `run()` in a task group.

    Attributes:
        complete: Set while all keys are known; cleared when the connection is lost.
    """

    def __init__(self, broker: Broker, bucket: str, on_change: OnChange, *, keys: str = ">") -> None:
        self._broker = broker
        self._bucket = bucket
        self._keys = keys
        self._on_change = on_change
        self._known: dict[str, int] = {}
        self._reconnected = asyncio.Event()
        self.complete = asyncio.Event()
        broker.on_connection(self._reconnected.set)

    async def run(self) -> None:
        """List and follow, without end."""
        delay_s = 0.1
        while True:
            await self._broker.wait_connected()
            self._reconnected.clear()
            try:
                await self._follow()
                delay_s = 0.1
            except (BrokerUnavailable, nats.errors.Error, TimeoutError) as error:
                log.warning("bucket_watch_restarted", bucket=self._bucket, error=repr(error))
                self.complete.clear()
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, 5.0)

    async def _follow(self) -> None:
        """List once and follow the changes, until it is time to list again."""
        watcher = await self._broker.watch(self._bucket, self._keys)
        try:
            async with asyncio.timeout(LIST_TIMEOUT_S):
                await self._list(watcher)
            self.complete.set()
            await self._tail(watcher)
        finally:
            await self._stop(watcher)

    async def _list(self, watcher: KeyValue.KeyWatcher) -> None:
        seen: set[str] = set()
        async for entry in watcher:
            if entry is None:
                break
            seen.add(entry.key)
            # Also a lower revision than the known one: the bucket may have been restored from a backup.
            if entry.revision != self._known.get(entry.key):
                self._apply(entry)
        for key in self._known.keys() - seen:
            del self._known[key]
            self._report(key, None)

    async def _tail(self, watcher: KeyValue.KeyWatcher) -> None:
        following = asyncio.create_task(self._apply_all(watcher), name=f"watch-{self._bucket}")
        reconnected = asyncio.create_task(self._reconnected.wait(), name=f"watch-{self._bucket}-reconnected")
        try:
            await asyncio.wait({following, reconnected}, timeout=RELIST_S, return_when=asyncio.FIRST_COMPLETED)
            if self._reconnected.is_set():
                self.complete.clear()
            if following.done():
                following.result()
        finally:
            await task_cleanup.cancel_and_wait([following, reconnected])
            await asyncio.gather(following, reconnected, return_exceptions=True)

    async def _apply_all(self, watcher: KeyValue.KeyWatcher) -> None:
        async for entry in watcher:
            if entry is not None and (entry.revision or 0) > self._known.get(entry.key, 0):
                self._apply(entry)

    def _apply(self, entry: KeyValue.Entry) -> None:
        if entry.operation is None and entry.value is not None:
            self._known[entry.key] = entry.revision or 0
            self._report(entry.key, entry.value)
        else:
            # Also for a key that was never reported: a listener may have read it itself before it was deleted.
            self._known.pop(entry.key, None)
            self._report(entry.key, None)

    def _report(self, key: str, value: bytes | None) -> None:
        """A value that a listener can't handle must not hide all others, now and at each further listing."""
        try:
            self._on_change(key, value)
        except Exception:
            log.exception("bucket_value_not_handled", bucket=self._bucket, key=key)

    async def _stop(self, watcher: KeyValue.KeyWatcher) -> None:
        try:
            await watcher.stop()  # type: ignore[no-untyped-call]  # nats-py leaves it unannotated
        except (nats.errors.Error, ValueError) as error:
            log.debug("bucket_watch_stop_failed", bucket=self._bucket, error=repr(error))
