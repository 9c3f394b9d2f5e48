"""A value that is computed when somebody asks, and kept for a moment for all who ask."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from edge_broker.connection.errors import BrokerUnavailable
from edge_relay.metrics.fleet_clock import FleetClock

T = TypeVar("T")

FRESH_FOR_S = 1.0
LARGEST_SHARE = 0.1
"""Of one core. A value that costs more is kept longer."""
KEPT_AT_MOST_S = 10.0


@dataclass(frozen=True, slots=True)
class Dated(Generic[T]):
    """A value, and when what it shows was read."""

    value: T
    as_of: datetime


class Cached(Generic[T]):
    """Computes a value at most once a second, for all callers together, and never without a caller.

    Args:
        fleet_clock: Dates the value.
        compute: Awaited; what it raises is raised to all who wait.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        fleet_clock: FleetClock,
        compute: Callable[[], Awaitable[T]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fleet_clock = fleet_clock
        self._compute = compute
        self._clock = clock
        self._lock = asyncio.Lock()
        self._kept: Dated[T] | None = None
        self._until = float("-inf")

    async def get(self) -> Dated[T]:
        """The value, at most about a second old; an older one while the broker is unreachable: see its date."""
        async with self._lock:
            if self._kept is None or self._clock() >= self._until:
                as_of, began = self._fleet_clock.as_of(), self._clock()
                cpu = time.thread_time()
                try:
                    value = await self._compute()
                except BrokerUnavailable:
                    if self._kept is None:
                        raise
                    return self._kept
                # Other tasks of the loop are counted too: while it is busy, the value is kept longer.
                cost = time.thread_time() - cpu
                self._kept = Dated(value, as_of)
                self._until = began + min(KEPT_AT_MOST_S, max(FRESH_FOR_S, cost / LARGEST_SHARE))
            return self._kept

    @property
    def kept_for_s(self) -> float:
        """For how long readers still get the value that was computed before; negative if the next one computes it."""
        return self._until - self._clock()

    def forget(self) -> None:
        """Compute again at the next call."""
        self._until = float("-inf")
