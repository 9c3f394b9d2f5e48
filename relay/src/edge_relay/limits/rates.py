"""Rates by key: how often something may happen, with room for a burst."""

import asyncio
from collections import OrderedDict

from edge_relay.limits.kinds import Limit, OnLimit
from edge_schemas.wire.errors import EdgeError, ErrorCode

MAX_KEYS = 20_000
SHORTEST_RETRY_S = 1.0


class RateLimit:
    """A bucket for each key that refills steadily. A bucket that was not used recently is forgotten, as it is full.

    Args:
        per_s: How much refills in a second.
        burst: How much a full bucket has.
        limit: The name of this limit.
        on_limit: Counts refusals.
        max_keys: The most buckets; the one that was used least recently is dropped.
    """

    def __init__(self, per_s: float, burst: float, limit: Limit, on_limit: OnLimit, max_keys: int = MAX_KEYS) -> None:
        self._per_s = per_s
        self._burst_s = burst / per_s
        self._limit = limit
        self._on_limit = on_limit
        self._max_keys = max_keys
        # When the bucket is full again. One number is enough for a bucket.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str, cost: float = 1.0) -> None:
        """Check, and charge.

        Raises:
            EdgeError: See `check`.
        """
        self.check(key)
        self.charge(key, cost)

    def check(self, key: str) -> None:
        """Check that the bucket is not empty.

        Raises:
            EdgeError: `rate_limited`, with the time until it is not empty.
        """
        wait = self._full_at.get(key, 0.0) - self._now() - self._burst_s
        if wait >= 0:
            self._on_limit(self._limit)
            text = f"the limit {self._limit} is reached"
            raise EdgeError(ErrorCode.RATE_LIMITED, text, retry_after_s=max(SHORTEST_RETRY_S, wait))

    def charge(self, key: str, cost: float) -> None:
        """Take from the bucket what was used. The cost may be known only afterwards, so the bucket may owe."""
        self._full_at[key] = max(self._full_at.get(key, 0.0), self._now()) + cost / self._per_s
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._max_keys:
            self._full_at.popitem(last=False)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
