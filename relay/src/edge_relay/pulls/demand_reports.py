"""Publishes how many free slots wait here for jobs of each queue: executors publish no more messages than needed."""

import asyncio
from collections.abc import Mapping

from edge_broker.connection.broker import Broker
from edge_broker.subjects import RELAY_DEMAND
from edge_relay.pulls.dispatcher_pool import DispatcherPool
from edge_schemas.wire.worker_entry import RELAY_BEAT_S, QueueDemand, RelayDemand

CHECK_S = 0.25
"""A change is reported after this time at the latest; many changes in this time make one report."""
SMALL_CHANGE = 64
"""A change by less than one part of so many waits for the beat: of many idle workers, some are always between polls."""


class DemandReports:
    """Publishes the demand of this replica. Run `run()` in a task group."""

    def __init__(self, broker: Broker, dispatchers: DispatcherPool, relay: str) -> None:
        self._broker = broker
        self._dispatchers = dispatchers
        self._relay = relay
        self._sent: dict[str, int] = {}
        self._due = 0.0

    async def run(self) -> None:
        """Publish what has changed, and everything at every beat, forever."""
        while True:
            free_slots = self._dispatchers.free_slots()
            now = asyncio.get_running_loop().time()
            if self._broker.connected and (now >= self._due or has_changed(self._sent, free_slots)):
                await self._publish(free_slots)
                self._due = now + RELAY_BEAT_S
            await asyncio.sleep(CHECK_S - now % CHECK_S)  # when parked polls end: one turn of the event loop for all

    async def _publish(self, free_slots: dict[str, int]) -> None:
        queues = tuple(QueueDemand(consumer=name, free_slots=free) for name, free in free_slots.items())
        demand = RelayDemand(relay=self._relay, queues=queues)
        await self._broker.publish(RELAY_DEMAND, demand.model_dump_json().encode())
        self._sent = free_slots


def has_changed(sent: Mapping[str, int], free_slots: Mapping[str, int]) -> bool:
    """Whether executors should learn of a change now."""
    if sent.keys() != free_slots.keys():
        return True
    return any(abs(free - sent[name]) * SMALL_CHANGE > sent[name] for name, free in free_slots.items())
