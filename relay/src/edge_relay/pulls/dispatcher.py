"""Delivers the jobs of one kind in a queue to the polls of this replica that wait for them.

Raw pull requests, answered to an inbox per lane: nats-py's own `fetch` leaves requests and messages behind when it is
cancelled. The inboxes are replaced when the requested messages are lost (reconnect, lost pull) or no longer wanted;
what still arrives at an old inbox is routed like any other message. A message is registered with a poll when it
arrives: nothing is awaited in between. If no poll accepts it, the open pulls are cancelled and then the message returns
to the queue: another replica gets it, and not this one again.
"""

import asyncio
from collections.abc import Callable

import structlog

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.jetstream.consumer import PulledMessage, PullStatus, StatusKind
from edge_broker.jetstream.message import pending
from edge_relay.metrics.replica import Metrics
from edge_relay.pulls.arrivals import Arrivals, OnUnreadable
from edge_relay.pulls.inboxes import LaneInboxes
from edge_relay.pulls.lanes import Lanes
from edge_relay.pulls.wait_queue import PollDemand, WaitQueue

log = structlog.get_logger(__name__)

IDLE_S = 60.0
"""A dispatcher that no poll has needed for this long ends."""


class Dispatcher:
    """One consumer's pulls and the polls that wait for it. Run `run()` in a task group; it ends when idle.

    Args:
        left: How many jobs may be fetched at the moment, whatever polls want; None for no limit.
    """

    def __init__(
        self,
        broker: Broker,
        consumer: str,
        metrics: Metrics,
        on_unreadable: OnUnreadable,
        *,
        on_end: Callable[[], None],
        left: Callable[[], int | None],
    ) -> None:
        self.consumer = consumer
        self._broker = broker
        self._metrics = metrics
        self._on_end = on_end
        self._left = left
        self._waiting = WaitQueue(consumer)
        self._arrivals = Arrivals(broker, self._waiting, metrics, on_unreadable, left)
        self._lanes = Lanes()
        self._inboxes = LaneInboxes(broker, consumer, self._on_answer)
        self._kick = asyncio.Event()
        self._searched: asyncio.Future[None] | None = None
        self._stale = False
        self._needed_at = 0.0

    @property
    def wanted(self) -> int:
        """How many jobs its polls would take."""
        return self._waiting.wanted

    @property
    def is_searched(self) -> bool:
        """Whether the next job arrives without another request: none waits in the queue now."""
        return self._lanes.is_waiting

    @property
    def likely_has_jobs(self) -> bool:
        """Whether jobs waited in the queue when it was last asked."""
        return bool(self._lanes.pending)

    @property
    def asked_at(self) -> float:
        """When it was last asked, by the event loop's clock."""
        return self._lanes.asked_at

    @property
    def empty_at(self) -> float:
        """When no job waited in it for the last time."""
        return self._lanes.empty_at

    def join(self, demand: PollDemand) -> None:
        """Request jobs for this poll until it has enough or leaves."""
        self._waiting.join(demand)
        self._kick_if_needed()

    def searched(self) -> asyncio.Future[None]:
        """Done once the queue is empty, no poll here wants or may have more of it, or it can't be asked now."""
        if self._searched is None:
            self._searched = asyncio.get_running_loop().create_future()
            self._kick.set()
        return self._searched

    def consumer_made(self) -> None:
        """The consumer has just been created: pull at once."""
        self._lanes.reset_backoff()
        self._kick.set()

    def limit_changed(self) -> None:
        """More or fewer jobs may be fetched than before."""
        self._kick.set()

    def reconnected(self) -> None:
        """The pulls that were sent on the old connection are lost."""
        self._stale = True
        self._lanes.reset_backoff()
        self._kick.set()

    async def run(self) -> None:
        """Pull for the waiting polls, until there has been none for a while."""
        self._needed_at = self._now()
        try:
            while not self._idle():
                self._kick.clear()
                await self._step()
                await self._pause()
        finally:
            # Before anything is awaited: polls that arrive from here on get a new dispatcher.
            self._on_end()
            self._end_search()
            await self._close()

    async def _step(self) -> None:
        """Send the pulls that are needed; after a failure wait for a moment."""
        try:
            if self._stale or self._lanes.overdue(self._now()):
                await self._renew()
            for pull in self._lanes.ask(self._to_request(), self._now(), probe=self._waiting.needs_probe):
                await self._inboxes.send(pull)
        except BrokerUnavailable as error:
            log.debug("pull_failed", consumer=self.consumer, error=str(error))
            self._lanes.forget()
            self._lanes.failed(self._now())
            self._stale = True
        if not self._waiting.wanted:
            self._lanes.rest()
        if self._lanes.is_waiting or not self._to_request() or self._lanes.is_delayed(self._now()):
            self._end_search()

    def _kick_if_needed(self) -> None:
        """Wake the loop, unless the open pulls are enough: a thousand polls must not cost a thousand turns of it."""
        enough = self._waiting.wanted and not self._stale and self._searched is None
        if not enough or self._lanes.can_ask(self._to_request()):
            self._kick.set()

    def _to_request(self) -> int:
        wanted, left = self._waiting.to_request(self._lanes.pending), self._left()
        return wanted if left is None else min(wanted, left)

    def _end_search(self) -> None:
        searched, self._searched = self._searched, None
        if searched is not None:
            searched.set_result(None)

    async def _renew(self) -> None:
        """Cancel the open pulls. What arrives nevertheless is routed before the inboxes are closed."""
        self._stale = False
        self._lanes.forget()
        await self._close()

    async def _close(self) -> None:
        await self._inboxes.close()
        if await self._arrivals.return_unwanted():
            self._lanes.returned()

    async def _on_answer(self, answer: PulledMessage | PullStatus, lane: int | None) -> None:
        if isinstance(answer, PullStatus):
            if lane is not None:
                self._on_status(answer, lane)
            return
        if lane is not None:
            self._lanes.arrived(lane, pending(answer.ack_subject), self._now())
        if not await self._arrivals.receive(answer):
            self._stale = True
        self._kick_if_needed()

    def _on_status(self, status: PullStatus, lane: int) -> None:
        self._lanes.ended(lane, status, self._now())
        if status.kind in {StatusKind.NO_CONSUMER, StatusKind.REJECTED}:
            self._metrics.pull_errors.labels(str(status.code)).inc()
            log.debug("pull_refused", consumer=self.consumer, status=status.code)
        self._kick.set()

    async def _pause(self) -> None:
        """Wait until something happens, or it is time to check again."""
        now = self._now()
        if self._waiting.wanted:
            self._needed_at = now
        moment = self._lanes.next_moment(self._to_request(), now)
        timeout = IDLE_S if moment is None else max(0.0, moment - now)
        try:
            async with asyncio.timeout(timeout):
                await self._kick.wait()
        except TimeoutError:
            return

    def _idle(self) -> bool:
        return not self._waiting.wanted and self._now() - self._needed_at >= IDLE_S

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
