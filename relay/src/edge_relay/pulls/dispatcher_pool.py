"""The dispatchers of this replica: one `Dispatcher` for each queue that a parked poll waits for."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial

from edge_broker.connection.broker import Broker
from edge_broker.subjects import parse_consumer_name
from edge_relay.lifecycle import draining
from edge_relay.metrics.replica import Metrics, begin_queue
from edge_relay.pulls.dispatcher import Dispatcher
from edge_relay.pulls.search import search
from edge_relay.pulls.wait_queue import PollDemand

PutAside = Callable[[str, str], Coroutine[None, None, None]]
"""Deals with a message that can't be read, by its subject and its ack subject. Must not raise."""
MAX_ASIDE = 64
"""Unreadable messages that are dealt with at the same time."""


class DispatcherPool:
    """Creates dispatchers when they are needed. Run `run()` in a task group.

    Args:
        put_aside: Deals with messages that can't be read.
    """

    def __init__(self, broker: Broker, metrics: Metrics, put_aside: PutAside) -> None:
        self._broker = broker
        self._metrics = metrics
        self._put_aside = put_aside
        self._aside = 0
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
        others = [one for one in dispatchers if demand.is_shared and not one.is_searched]
        for one in dispatchers:
            if one not in others:
                one.join(demand)
        if others:
            self._search(demand, others)

    def _begin_metrics(self, consumers: frozenset[str]) -> None:
        for name in consumers - self._served:
            begin_queue(self._metrics, *parse_consumer_name(name))
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
            dispatcher = Dispatcher(
                self._broker, consumer, self._metrics, self._unreadable, partial(self._forget, consumer)
            )
            self._live[consumer] = dispatcher
            self._group.create_task(dispatcher.run(), name=f"dispatcher-{consumer}")
        return dispatcher

    def _unreadable(self, subject: str, ack_subject: str) -> None:
        # Beyond the limit, and while this replica stops, the message is delivered again after the grant wait.
        if self._group is not None and self._aside < MAX_ASIDE:
            self._aside += 1
            task = self._group.create_task(self._put_aside(subject, ack_subject), name="unreadable-message")
            task.add_done_callback(self._was_put_aside)

    def _was_put_aside(self, _: asyncio.Task[None]) -> None:
        self._aside -= 1

    def _forget(self, consumer: str) -> None:
        del self._live[consumer]

    def _reconnected(self) -> None:
        for dispatcher in self._live.values():
            dispatcher.reconnected()
