"""A bucket kept in memory: listed once, then followed.

Lists again after every connection, and when the watch has stopped: it may lose its consumer without an error. This is
found by comparing the last message received with the last one of the stream, which costs one request, however large the
bucket is. Readers that need the current value (who holds a job?) read through the leader instead.
"""

import asyncio
from collections.abc import Callable, Iterable

import nats.errors
import structlog
from nats.js.kv import KeyValue

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_broker.jetstream.stream_info import stream_info
from edge_broker.subjects import kv_stream
from edge_service import task_cleanup

log = structlog.get_logger(__name__)

CHECK_S = 30.0
LIST_STALL_S = 10.0
"""A listing may take any time, as long as it goes on."""

OnChange = Callable[[str, bytes | None], None]
"""Key and new value, None when the key was deleted. May be called again for the same value, and for the deletion of
a key that was never reported. Called in the event loop; must not block."""


class WatchStopped(Exception):
    """A watch shows changes no longer, or shows a bucket that was replaced."""


class WatchedBucket:
    """Follows the keys of a bucket. Run `run()` in a task group.

    Args:
        broker: The connection.
        bucket: Its name.
        on_change: Called for each value and each deletion.
        known: Keys that an earlier watch has shown: those that are not listed are reported as deleted.

    Attributes:
        complete: Set while all keys are known; cleared when the connection is lost.
    """

    def __init__(self, broker: Broker, bucket: str, on_change: OnChange, *, known: Iterable[str] = ()) -> None:
        self._broker = broker
        self._bucket = bucket
        self._on_change = on_change
        self._known = dict.fromkeys(known, 0)
        self._position = 0
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
            except (BrokerUnavailable, JetStreamError, WatchStopped, nats.errors.Error, TimeoutError) as error:
                log.warning("bucket_watch_restarted", bucket=self._bucket, error=repr(error))
                self.complete.clear()
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, 5.0)

    async def _follow(self) -> None:
        """List once and follow the changes, until the connection is lost."""
        before = await self._last_sequence()
        watcher = await self._broker.watch(self._bucket)
        try:
            await self._list(watcher)
            # What the stream no longer holds is not listed.
            self._position = max(self._position, before)
            self.complete.set()
            await self._tail(watcher)
        finally:
            await self._stop(watcher)

    async def _list(self, watcher: KeyValue.KeyWatcher) -> None:
        seen: set[str] = set()
        clock = asyncio.get_running_loop().time
        self._position = 0
        async with asyncio.timeout(LIST_STALL_S) as limit:
            async for entry in watcher:
                if entry is None:
                    break
                limit.reschedule(clock() + LIST_STALL_S)
                seen.add(entry.key)
                # Also a lower revision than the known one: the bucket may have been restored from a backup.
                if entry.revision != self._known.get(entry.key):
                    self._apply(entry)
                self._position = entry.revision or 0
        for key in self._known.keys() - seen:
            del self._known[key]
            self._report(key, None)

    async def _tail(self, watcher: KeyValue.KeyWatcher) -> None:
        following = asyncio.create_task(self._apply_all(watcher), name=f"watch-{self._bucket}")
        reconnected = asyncio.create_task(self._reconnected.wait(), name=f"watch-{self._bucket}-reconnected")
        checking = asyncio.create_task(self._check(), name=f"watch-{self._bucket}-check")
        tasks = [following, reconnected, checking]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._reconnected.is_set():
                self.complete.clear()
            for task in (following, checking):
                if task.done():
                    task.result()
        finally:
            await task_cleanup.cancel_and_wait(tasks)
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _apply_all(self, watcher: KeyValue.KeyWatcher) -> None:
        async for entry in watcher:
            if entry is None:
                continue
            self._position = max(self._position, entry.revision or 0)
            if (entry.revision or 0) > self._known.get(entry.key, 0):
                self._apply(entry)

    async def _check(self) -> None:
        """Compare the watch with its stream, until it has stopped.

        Raises:
            WatchStopped: The last message of one check has not arrived at the next one, nor has any other.
        """
        last = seen = 0
        while True:
            await asyncio.sleep(CHECK_S)
            if seen == self._position < last:
                raise WatchStopped(f"message {last} has not arrived, the last one was {seen}")
            seen = self._position
            try:
                last = await self._last_sequence()
            except BrokerUnavailable as error:
                log.debug("bucket_watch_not_checked", bucket=self._bucket, error=str(error))
                continue
            if last < seen:
                raise WatchStopped(f"the stream ends with message {last}, but message {seen} was seen")

    async def _last_sequence(self) -> int:
        return (await stream_info(self._broker, kv_stream(self._bucket)))["state"]["last_seq"]

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
