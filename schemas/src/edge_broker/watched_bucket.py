"""A bucket kept in memory: listed once, then followed.

After a cut of the connection, a watch continues where it was. If it can't, because the server was restarted for
example, it lists the bucket again. It also lists again after it has stopped: a watch may lose its consumer without an
error. This is found by comparing the last message received with the last one of the stream. Readers that need the
current value (who holds a job?) read through the leader instead.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import nats.errors
import structlog
from nats.js.kv import KeyValue

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_broker.jetstream.stream_info import StreamInfo, stream_info
from edge_broker.subjects import kv_stream
from edge_service import task_cleanup

log = structlog.get_logger(__name__)

CHECK_S = 30.0
LIST_STALL_S = 10.0
"""A listing may take any time, as long as it goes on."""
CONTINUE_WITHIN_S = 300.0
"""A mark of deletion is gone some time after the key; after a longer absence a watch lists again."""

OnComplete = Callable[[], None]
OnChange = Callable[[str, bytes | None], None]
"""Key and new value, None when the key was deleted. May be called again for the same value, and for the deletion of
a key that was never reported. Called in the event loop; must not block."""


class WatchStopped(Exception):
    """A watch shows changes no longer, or shows a bucket that was replaced."""


@dataclass(frozen=True, slots=True)
class _Source:
    """What a watch has followed until its connection was lost.

    Attributes:
        server: Its id. A server that was restarted may have lost the last messages, and written others with their
            numbers.
        created: When the stream was created.
    """

    server: str
    created: str
    lost_at: float

    def continues_in(self, server: str, info: StreamInfo, position: int) -> bool:
        """Whether everything after the position will still be shown."""
        is_same = (server, info["created"]) == (self.server, self.created)
        return is_same and info["state"]["last_seq"] >= position and time.monotonic() - self.lost_at < CONTINUE_WITHIN_S


class WatchedBucket:
    """Follows the keys of a bucket. Run `run()` in a task group.

    Args:
        broker: The connection.
        bucket: Its name.
        on_change: Called for each value and each deletion.
        known: Keys that an earlier watch has shown: those that are not listed are reported as deleted.
        on_complete: Called each time that all keys are known.

    Attributes:
        bucket: Its name.
        complete: Set while all keys are known; cleared when the connection is lost.
    """

    def __init__(
        self,
        broker: Broker,
        bucket: str,
        on_change: OnChange,
        *,
        known: Iterable[str] = (),
        on_complete: OnComplete = lambda: None,
    ) -> None:
        self._broker = broker
        self.bucket = bucket
        self._listeners = [on_change]
        self._on_complete = on_complete
        self._known = dict.fromkeys(known, 0)
        self._position = 0
        self._source: _Source | None = None
        self._reconnected = asyncio.Event()
        self.complete = asyncio.Event()
        broker.on_connection(self._reconnected.set)

    def on_value(self, listener: OnChange) -> None:
        """Call a further listener for each value and each deletion, from the next one on."""
        self._listeners.append(listener)

    @property
    def position(self) -> int:
        """The newest revision that was shown: what changed later is not known yet."""
        return self._position

    def revision(self, key: str) -> int:
        """Of the value that was reported last for a key; 0 if it has none."""
        return self._known.get(key, 0)

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
                log.warning("bucket_watch_restarted", bucket=self.bucket, error=repr(error))
                self.complete.clear()
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, 5.0)

    async def _follow(self) -> None:
        """List, or continue, and follow the changes until the connection is lost."""
        info, server = await stream_info(self._broker, kv_stream(self.bucket)), self._broker.server_id
        after = self._position
        if self._source is None or not self._source.continues_in(server, info, after):
            self._source, after, self._position = None, 0, 0
        watcher = await self._broker.watch(self.bucket, after=after)
        try:
            shown = await self._read(watcher)
            if not after:
                self._remove_all_but(shown)
            # What the stream no longer holds is not shown.
            self._position = max(self._position, info["state"]["last_seq"])
            self._source = None
            self.complete.set()
            self._on_complete()
            await self._tail(watcher)
            if self._reconnected.is_set():
                self._source = _Source(server, info["created"], self._broker.lost_at or time.monotonic())
        finally:
            await self._stop(watcher)

    async def _read(self, watcher: KeyValue.KeyWatcher) -> set[str]:
        """Apply what there is when the watch begins; returns its keys."""
        shown: set[str] = set()
        clock = asyncio.get_running_loop().time
        async with asyncio.timeout(LIST_STALL_S) as limit:
            async for entry in watcher:
                if entry is None:
                    break
                limit.reschedule(clock() + LIST_STALL_S)
                shown.add(entry.key)
                # Also a lower revision than the known one: the bucket may have been restored from a backup.
                if entry.revision != self._known.get(entry.key):
                    self._apply(entry)
                self._position = entry.revision or 0
        return shown

    def _remove_all_but(self, keys: set[str]) -> None:
        for key in self._known.keys() - keys:
            del self._known[key]
            self._report(key, None)

    async def _tail(self, watcher: KeyValue.KeyWatcher) -> None:
        following = asyncio.create_task(self._apply_all(watcher), name=f"watch-{self.bucket}")
        reconnected = asyncio.create_task(self._reconnected.wait(), name=f"watch-{self.bucket}-reconnected")
        checking = asyncio.create_task(self._check(), name=f"watch-{self.bucket}-check")
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
                log.debug("bucket_watch_not_checked", bucket=self.bucket, error=str(error))
                continue
            if last < seen:
                raise WatchStopped(f"the stream ends with message {last}, but message {seen} was seen")

    async def _last_sequence(self) -> int:
        return (await stream_info(self._broker, kv_stream(self.bucket)))["state"]["last_seq"]

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
        for listener in self._listeners:
            try:
                listener(key, value)
            except Exception:
                log.exception("bucket_value_not_handled", bucket=self.bucket, key=key)

    async def _stop(self, watcher: KeyValue.KeyWatcher) -> None:
        try:
            await watcher.stop()  # type: ignore[no-untyped-call]  # nats-py leaves it unannotated
        except (nats.errors.Error, ValueError) as error:
            log.debug("bucket_watch_stop_failed", bucket=self.bucket, error=repr(error))
