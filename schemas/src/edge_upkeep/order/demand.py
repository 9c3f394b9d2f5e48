"""How many free slots wait for jobs of each queue, as the relays report it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from pydantic import ValidationError

from edge_broker.connection.subscriptions import Message
from edge_schemas.wire.worker_entry import RELAY_BEAT_S, RelayDemand

log = structlog.get_logger(__name__)

EXPIRES_S = 3 * RELAY_BEAT_S
"""A relay that has been silent for this long has no free slots to offer."""


@dataclass(slots=True)
class _Report:
    free: dict[str, int]
    at: float


class Demand:
    """The free slots at each queue's consumer. A slot that a job has taken is subtracted until the next report."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reports: dict[str, _Report] = {}
        self._since: dict[str, float] = {}
        self._on_report: Callable[[], None] = lambda: None

    def on_report(self, callback: Callable[[], None]) -> None:
        """Call this after each report."""
        self._on_report = callback

    async def on_message(self, message: Message) -> None:
        """A relay has reported."""
        try:
            self.report(RelayDemand.model_validate_json(message.data))
        except ValidationError as error:
            log.warning("relay_demand_unreadable", errors=error.error_count())

    def report(self, demand: RelayDemand) -> None:
        """Replace what this relay reported before."""
        now = self._clock()
        self._reports = {relay: one for relay, one in self._reports.items() if now - one.at < EXPIRES_S}
        self._reports[demand.relay] = _Report({one.consumer: one.free_slots for one in demand.queues}, now)
        offered = {consumer for one in self._reports.values() for consumer, free in one.free.items() if free > 0}
        self._since = {consumer: self._since.get(consumer, now) for consumer in offered}
        self._on_report()

    def free(self, consumer: str) -> int:
        """How many free slots wait at this consumer."""
        oldest = self._clock() - EXPIRES_S
        return sum(one.free.get(consumer, 0) for one in self._reports.values() if one.at > oldest)

    def free_for_s(self, consumer: str) -> float:
        """For how long each report has had free slots at this consumer."""
        since = self._since.get(consumer)
        return 0.0 if since is None or not self.free(consumer) else self._clock() - since

    def taken(self, consumer: str) -> None:
        """A job was started: until the next report, there is one free slot fewer."""
        most = max(self._reports.values(), key=lambda one: one.free.get(consumer, 0), default=None)
        if most is not None and most.free.get(consumer, 0) > 0:
            most.free[consumer] -= 1
