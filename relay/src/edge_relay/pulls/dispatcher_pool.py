"""The dispatchers of this replica: one `Dispatcher` for each queue that a parked poll waits for."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial

from edge_broker.connection.broker import Broker
from edge_broker.subjects import parse_consumer_name
from edge_relay.lifecycle import draining
from edge_relay.metrics.replica import Metrics
from edge_relay.pulls.dispatcher import Dispatcher
from edge_relay.pulls.search import search
from edge_relay.pulls.wait_queue import PollDemand


class DispatcherPool:
    """Creates dispatchers when they are needed. Run `run()` in a task group."""

    def __init__(self, broker: Broker, metrics: Metrics) -> None:
        self._broker = broker
        self._metrics = metrics
        self._live: dict[str, Dispatcher] = {}
        self._served: set[str] = set()
        self._group: asyncio.TaskGroup | None = None
        broker.on_connection(self._reconnected)

    async def run(self) -> None:
        """Run all dispatchers; when this is cancelled, each returns the jobs that are under way."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None

    def enlist(self, demand: PollDemand, consumers: Iterable[str]) -> None:
        """Make a poll wait for jobs of exactly these consumers.

        Raises:
            EdgeError: `draining`.
        """
        wanted = frozenset(consumers)
        self._begin_metrics(wanted)
        if wanted == demand.consumers or demand.wants == 0:
            return
        demand.begin(wanted)
        dispatchers = [self._dispatcher(name) for name in wanted]
        others = [one for one in dispatchers if demand.is_shared and not one.is_settled]
        for one in dispatchers:
            if one not in others:
                one.join(demand)
        if others:
            self._search(demand, others)

    def _begin_metrics(self, consumers: frozenset[str]) -> None:
        for name in consumers - self._served:
            self._metrics.begin(*parse_consumer_name(name))
        self._served |= consumers

    def _search(self, demand: PollDemand, dispatchers: Sequence[Dispatcher]) -> None:
        if self._group is None:
            raise draining()
        task = self._group.create_task(search(demand, dispatchers, self._dispatcher), name="queue-search")
        demand.searching(task.cancel)

    def free_slots(self) -> dict[str, int]:
        """How many jobs of each consumer the polls that wait here would take, were there no other queue."""
        return {name: one.wanted for name, one in self._live.items() if one.wanted}

    def consumer_made(self, consumer: str) -> None:
        """A notice reports that the consumer was created."""
        if dispatcher := self._live.get(consumer):
            dispatcher.consumer_made()

    def _dispatcher(self, consumer: str) -> Dispatcher:
        if self._group is None:
            raise draining()
        dispatcher = self._live.get(consumer)
        if dispatcher is None:
            dispatcher = Dispatcher(self._broker, consumer, self._metrics, partial(self._forget, consumer))
            self._live[consumer] = dispatcher
            self._group.create_task(dispatcher.run(), name=f"dispatcher-{consumer}")
        return dispatcher

    def _forget(self, consumer: str) -> None:
        del self._live[consumer]

    def _reconnected(self) -> None:
        for dispatcher in self._live.values():
            dispatcher.reconnected()
