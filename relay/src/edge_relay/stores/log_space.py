"""Makes room in `EDGE_LOGS`: the oldest bytes of ended jobs are removed, those of unfinished jobs never.

The stream refuses what does not fit. While it is filled above a mark, its messages are read from the oldest one on. The
log of an ended job is removed up to there, that of an unfinished one is passed and remembered until its job ends. What
was removed is not met again, so the stream itself is the cursor: any number of replicas may do this at once, a replica
that was started a moment ago as well, and it costs as much as was stored, however many jobs have ended.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_broker.jetstream.direct_get import BatchMessage, read_batch
from edge_broker.jetstream.stream_info import StreamInfo, purge, stream_info
from edge_broker.subjects import LOGS
from edge_relay.limits.log_shares import LogShares
from edge_relay.stores.logged_jobs import LoggedJobs, in_parallel
from edge_schemas.wire.errors import EdgeError

log = structlog.get_logger(__name__)

BEGIN_ABOVE = 0.85
"""Of the stream's largest size: room is made when more is used."""
END_BELOW = 0.8
CHECK_S = 2.0
RETRY_S = 10.0
BATCH_MESSAGES = 256
BATCH_BYTES = 4 << 20
READ_TIMEOUT_S = 10.0
OVERHEAD_BYTES = 256
"""What the stream needs for a message besides its bytes, at most."""


@dataclass(slots=True)
class _Kept:
    """The part of an unfinished job's log that was passed."""

    queue: str
    size: int = 0


class LogSpace:
    """Makes room. Run `run()` in a task group.

    Args:
        broker: The connection.
        jobs: Find out whether the job of a log has ended.
        shares: Decide whose bytes are refused; updated at each check.
        on_removed: Called for each log that was removed, in whole or in part.

    Attributes:
        exhausted: At the last check no log could be removed, although room was needed.
    """

    def __init__(self, broker: Broker, jobs: LoggedJobs, shares: LogShares, on_removed: Callable[[], None]) -> None:
        self._broker = broker
        self._jobs = jobs
        self._shares = shares
        self._on_removed = on_removed
        self._position = 0
        self._kept: dict[str, _Kept] = {}
        self._kick = asyncio.Event()
        self.exhausted = False

    async def run(self) -> None:
        """Check every few seconds, and soon after bytes were refused, until cancelled."""
        while True:
            await self._broker.wait_connected()
            self._kick.clear()
            try:
                await self.check()
            except* (BrokerUnavailable, JetStreamError, TimeoutError) as errors:
                log.warning("log_space_not_made", error=repr(errors.exceptions[0]))
                await asyncio.sleep(RETRY_S)
            # Different for each replica, so that mostly one of them removes a log.
            pause_s = CHECK_S * random.uniform(0.5, 1.5)  # noqa: S311  # nothing secret
            try:
                async with asyncio.timeout(pause_s):
                    await self._kick.wait()
                await asyncio.sleep(pause_s / 4)  # while the stream stays full, bytes are refused all the time
            except TimeoutError:
                pass

    def require(self, queue: str) -> None:
        """Check that a queue may store a chunk.

        Raises:
            EdgeError: `rate_limited`.
        """
        try:
            self._shares.check(queue)
        except EdgeError:
            self._kick.set()
            raise

    def charge(self, queue: str, stored: int) -> None:
        """A chunk of the queue is stored."""
        self._shares.charge(queue, stored)

    def refuse(self) -> EdgeError:
        """The stream is full; returns the answer to the worker."""
        self._kick.set()
        return self._shares.refusal()

    async def check(self) -> None:
        """Make room if too much is used.

        Raises:
            BrokerUnavailable: Call again later; a group of them, if several calls have failed.
            JetStreamError: The stream does not exist, for example.
            TimeoutError: The stream could not be read in time.
        """
        info = await stream_info(self._broker, LOGS)
        self._share(info)
        room = info["config"].get("max_bytes") or -1
        if info["state"]["last_seq"] < self._position:  # another stream, restored from a backup for example
            self._position, self._kept = 0, {}
        if room < 0 or info["state"]["bytes"] <= BEGIN_ABOVE * room:
            self.exhausted = False
            return
        removed, info = await self._remove_until(info, END_BELOW * room)
        was_exhausted, self.exhausted = self.exhausted, info["state"]["bytes"] > END_BELOW * room
        self._share(info)
        if removed:
            log.info("logs_removed", logs=removed)
        if self.exhausted and not was_exhausted:
            log.warning("logs_not_removed", logs=len(self._kept))

    def _share(self, info: StreamInfo) -> None:
        """Divide what is free. Until all of the stream was read, any of it may be of an ended job."""
        room = info["config"].get("max_bytes") or -1
        free = room - info["state"]["bytes"] if room > 0 else None
        used: Counter[str] = Counter()
        for kept in self._kept.values() if self.exhausted else ():
            used[kept.queue] += kept.size
        self._shares.set(free, used)

    async def _remove_until(self, info: StreamInfo, end: float) -> tuple[int, StreamInfo]:
        """Remove the oldest bytes of ended jobs until no more than `end` is used, or none are left."""
        removed, info = await self._remove_ended_since(info, end)
        while info["state"]["bytes"] > end:
            async with asyncio.timeout(READ_TIMEOUT_S):
                batch = await read_batch(
                    self._broker,
                    LOGS,
                    "edge.logs.>",
                    after=self._position,
                    max_messages=BATCH_MESSAGES,
                    max_bytes=BATCH_BYTES,
                )
            if not batch.messages:
                break
            removed += await self._pass(batch.messages)
            info = await stream_info(self._broker, LOGS)
        return removed, info

    async def _pass(self, messages: Iterable[BatchMessage]) -> int:
        """Remove what ended jobs have up to the last message, and remember the rest; returns how many were removed."""
        sizes: Counter[str] = Counter()
        last = self._position
        for message in messages:
            sizes[message.subject] += len(message.data) + OVERHEAD_BYTES
            last = message.sequence
        jobs = await self._jobs.find(sizes)
        ended = [subject for subject, job in jobs.items() if job.ended_at is not None]
        await in_parallel(self._remove(subject, last) for subject in ended)
        for subject in ended:
            self._kept.pop(subject, None)
        for subject in sizes.keys() - ended:
            self._kept.setdefault(subject, _Kept(jobs[subject].queue)).size += sizes[subject]
        self._position = last
        return len(ended)

    async def _remove_ended_since(self, info: StreamInfo, end: float) -> tuple[int, StreamInfo]:
        """Remove passed logs whose jobs have ended meanwhile, the earliest end first, as long as room is needed."""
        jobs = await self._jobs.find(filter(self._jobs.may_have_ended, self._kept))
        ended = sorted((job.ended_at, subject) for subject, job in jobs.items() if job.ended_at is not None)
        for removed, (_, subject) in enumerate(ended):
            if info["state"]["bytes"] <= end:
                return removed, info
            await self._remove(subject, self._position)
            del self._kept[subject]
            info = await stream_info(self._broker, LOGS)
        return len(ended), info

    async def _remove(self, subject: str, last: int) -> None:
        """Remove a log up to a message; what has arrived since stays."""
        await purge(self._broker, LOGS, subject, before=last + 1)
        self._on_removed()
