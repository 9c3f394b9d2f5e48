"""Reads of entries for secrets that this replica does not know: few at once, limited by address, and remembered.

Anybody can make up secrets. Without these bounds each one would cost a read through the stream leader.
"""

import asyncio
from collections import OrderedDict

from edge_broker.bucket import Bucket
from edge_relay.limits.kinds import Limit, OnLimit
from edge_relay.limits.rates import RateLimit
from edge_schemas.wire.errors import EdgeError, ErrorCode

KEPT_S = 3.0
"""How long an answer counts without another read."""
MAX_KEPT = 10_000
MAX_READS = 8
MAX_WAITING_READS = 64
BURST_S = 10.0


class Lookups:
    """Reads entries of `edge_access` on behalf of callers.

    Args:
        bucket: The bucket.
        per_s: Reads in a second for all addresses.
        per_address_per_s: Reads in a second for one address.
        on_limit: Counts refusals.
    """

    def __init__(self, bucket: Bucket, *, per_s: float, per_address_per_s: float, on_limit: OnLimit) -> None:
        self._bucket = bucket
        self._on_limit = on_limit
        self._all = RateLimit(per_s, per_s * BURST_S, Limit.LOOKUPS, on_limit)
        self._of_address = RateLimit(per_address_per_s, per_address_per_s * BURST_S, Limit.LOOKUPS_OF_ADDRESS, on_limit)
        self._kept: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        self._reads = asyncio.Semaphore(MAX_READS)
        self._waiting = 0

    async def exists(self, key: str, address: str) -> bool:
        """Whether there is an entry, now or a moment ago."""
        kept_until, exists = self._kept.get(key, (0.0, False))
        if kept_until > self._now():
            return exists
        return await self.read(key, address) is not None

    async def read(self, key: str, address: str) -> bytes | None:
        """An entry that another replica may just have written; None if there is none, now or a moment ago.

        Raises:
            EdgeError: `rate_limited`.
            BrokerUnavailable: The broker can't be asked.
        """
        kept_until, exists = self._kept.get(key, (0.0, True))
        if not exists and kept_until > self._now():
            return None
        self._of_address.check(address)
        self._all.check("")
        if self._waiting >= MAX_WAITING_READS:
            self._on_limit(Limit.LOOKUPS)
            raise EdgeError(ErrorCode.RATE_LIMITED, "too many unknown credentials at once", retry_after_s=1.0)
        self._of_address.charge(address, 1)
        self._all.charge("", 1)
        self._waiting += 1
        try:
            async with self._reads:
                value = (await self._bucket.get(key)).value
        finally:
            self._waiting -= 1
        self._keep(key, exists=value is not None)
        return value

    def forget(self, key: str) -> None:
        """The entry was written."""
        self._kept.pop(key, None)

    def _keep(self, key: str, *, exists: bool) -> None:
        self._kept[key] = (self._now() + KEPT_S, exists)
        self._kept.move_to_end(key)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
