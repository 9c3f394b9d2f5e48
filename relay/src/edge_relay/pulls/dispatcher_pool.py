"""The dispatchers of this replica: one `Dispatcher` for each kind of jobs in a queue that a parked poll waits for."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from functools import partial

from edge_broker.connection.broker import Broker
from edge_broker.subjects import consumer_of, parse_consumer_name, parse_queue_token
from edge_relay.lifecycle import draining
from edge_relay.metrics.replica import Metrics, begin_queue
from edge_relay.pulls.dispatcher import Dispatcher
from edge_relay.pulls.search import search
from edge_relay.pulls.wait_queue import PollDemand
from edge_schemas.wire.jobs import JobKind

PutAside = Callable[[str, str], Coroutine[None, None, None]]
"""Deals with a message that can't be read, by its subject and its ack subject. Must not raise."""
Left = Callable[[str, JobKind], int | None]
"""How many more jobs of a kind may be fetched from a queue, given as a token; None for no limit."""
MAX_ASIDE = 64
"""Unreadable messages that are dealt with at the same time."""


class DispatcherPool:
    """Creates dispatchers when they are needed. Run `run()` in a task group.

    Args:
        put_aside: Deals with messages that can't be read.
        left: Of a queue with a limit.
    """

    def __init__(self, broker: Broker, metrics: Metrics, put_aside: PutAside, left: Left) -> None:
        self._broker = broker
        self._metrics = metrics
        self._put_aside = put_aside
        self._left = left
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

    def enlist(self, demand: PollDemand, queues: Collection[str]) -> None:
        """Make a poll wait for jobs of exactly these queues, of the kinds that its worker accepts.

        Args:
            demand: Of the poll.
            queues: As tokens.

        Raises:
            EdgeError: `draining`.
        """
        self._begin_metrics(queues)
        wanted = frozenset(consumer_of(queue, kind) for queue in queues for kind in demand.accepts)
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

    def _begin_metrics(self, queues: Collection[str]) -> None:
        for queue in queues:
            if queue not in self._served:
                begin_queue(self._metrics, *parse_queue_token(queue))
                self._served.add(queue)

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

    def limit_changed(self, queue: str) -> None:
        """More or fewer jobs of a queue, given as a token, may be fetched than before."""
        for kind in JobKind:
            if dispatcher := self._live.get(consumer_of(queue, kind)):
                dispatcher.limit_changed()

    def _dispatcher(self, consumer: str) -> Dispatcher:
        if self._group is None:
            raise draining()
        dispatcher = self._live.get(consumer)
        if dispatcher is None:
            dispatcher = Dispatcher(
                self._broker,
                consumer,
                self._metrics,
                self._unreadable,
                on_end=partial(self._forget, consumer),
                left=partial(self._left, *parse_consumer_name(consumer)),
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
