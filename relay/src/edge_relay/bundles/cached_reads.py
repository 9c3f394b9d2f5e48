"""Values by digest, read once for all who need them at the same time, and kept while there is room for them.

A digest names the same value forever, so nothing that is kept grows old.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Generic, TypeVar

V = TypeVar("V")

READS_AT_ONCE = 8


class Source(StrEnum):
    """Where a value came from, as metrics show it."""

    MEMORY = "memory"
    SHARED = "shared"
    """From a read that another call had begun."""
    NATS = "nats"


class CachedReads(Generic[V]):
    """The values that are kept, and the reads in progress.

    Args:
        read: Reads values; those that are not stored are left out.
        size: How many bytes a value counts.
        most_bytes: The most that is kept; with 0 a read is still shared by all who wait for it.
        count: Called with the number of values that came from a source.
    """

    def __init__(
        self,
        read: Callable[[Sequence[str]], Awaitable[Mapping[str, V]]],
        *,
        size: Callable[[V], int],
        most_bytes: int,
        count: Callable[[Source, int], None] = lambda *_: None,
    ) -> None:
        self._read = read
        self._size = size
        self._most_bytes = most_bytes
        self._count = count
        self._kept: OrderedDict[str, V] = OrderedDict()
        self._reading: dict[str, asyncio.Future[V | None]] = {}
        self._turns = asyncio.Semaphore(READS_AT_ONCE)
        self.kept_bytes = 0

    async def get(self, digests: Iterable[str]) -> dict[str, V]:
        """The values of these digests; those that are not stored are left out.

        Raises:
            BrokerUnavailable: Not all could be read.
        """
        found: dict[str, V] = {}
        # A reader that is cancelled leaves its digests to those who waited for it.
        left = list(digests)
        while left:
            kept = [digest for digest in left if digest in self._kept]
            shared = {digest: self._reading[digest] for digest in left if digest in self._reading}
            own = [digest for digest in left if digest not in self._kept and digest not in self._reading]
            for digest in kept:
                self._kept.move_to_end(digest)
                found[digest] = self._kept[digest]
            self._count(Source.MEMORY, len(kept))
            if own:
                found |= await self._read_for_all(own)
            left = await self._wait(shared, found)
        return found

    async def _read_for_all(self, digests: Sequence[str]) -> Mapping[str, V]:
        """Read values that no other call reads; those who wait for them get them, or the error."""
        futures = {digest: asyncio.get_running_loop().create_future() for digest in digests}
        self._reading |= futures
        try:
            async with self._turns:
                values = await self._read(digests)
        except Exception as error:
            for future in futures.values():
                future.set_exception(error)
                future.exception()  # perhaps no other call waits for it
            raise
        else:
            self._count(Source.NATS, len(digests))
            for digest, future in futures.items():
                future.set_result(values.get(digest))
            for digest, value in values.items():
                self._keep(digest, value)
            return values
        finally:
            for digest, future in futures.items():
                del self._reading[digest]
                future.cancel()  # if this call was cancelled

    async def _wait(self, shared: Mapping[str, asyncio.Future[V | None]], found: dict[str, V]) -> list[str]:
        """Wait for what other calls read; returns what they did not read to the end."""
        if shared:
            await asyncio.wait(shared.values())
        abandoned = [digest for digest, future in shared.items() if future.cancelled()]
        values = {digest: future.result() for digest, future in shared.items() if not future.cancelled()}
        found |= {digest: value for digest, value in values.items() if value is not None}
        self._count(Source.SHARED, len(values))
        return abandoned

    def _keep(self, digest: str, value: V) -> None:
        size = self._size(value)
        if size > self._most_bytes:
            return
        self._kept[digest] = value
        self.kept_bytes += size
        while self.kept_bytes > self._most_bytes:
            _, dropped = self._kept.popitem(last=False)
            self.kept_bytes -= self._size(dropped)
