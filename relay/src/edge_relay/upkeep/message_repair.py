"""Each submitted job that should have a message has one: lists what a queue has of each kind, and compares.

At every new connection and every half minute, and first of all for a queue or a kind that is new here.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import structlog

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_broker.subjects import kind_filter
from edge_relay.upkeep.order.turns import Turns
from edge_relay.upkeep.publisher import MessagePublisher
from edge_upkeep.messages import Line, jobs_with_message

log = structlog.get_logger(__name__)

EVERY_S = 30.0
RETRY_S = 2.0


class MessageRepair:
    """Run `run()` in a task group.

    Args:
        broker: The relay's.
        known: Set while all records, and what operators have set for queues, are known: both are needed to compare.
        turns: Knows which jobs should have a message.
        publisher: Stores what is missing.

    Attributes:
        kick: Set it when a queue or a kind in it is new, or the connection.
    """

    def __init__(
        self, broker: Broker, known: Iterable[asyncio.Event], turns: Turns, publisher: MessagePublisher
    ) -> None:
        self._broker = broker
        self._known = tuple(known)
        self._turns = turns
        self._publisher = publisher
        self._is_connection_new = True
        self.kick = asyncio.Event()
        broker.on_connection(self._reconnected)

    async def run(self) -> None:
        """Compare until cancelled."""
        clock = asyncio.get_running_loop().time
        all_due_at = clock()
        while True:
            for known in self._known:
                await known.wait()
            self.kick.clear()
            is_all_due = self._is_connection_new or clock() >= all_due_at
            self._is_connection_new = False
            if is_all_due:
                all_due_at = clock() + EVERY_S
            if not await self._repair(self._turns.lines | self._turns.unlisted if is_all_due else self._turns.unlisted):
                self._is_connection_new |= is_all_due
                await asyncio.sleep(RETRY_S)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(all_due_at - clock()):
                    await self.kick.wait()

    async def _repair(self, lines: set[Line]) -> bool:
        """Whether all messages of these kinds in queues are there or on their way."""
        is_complete = True
        for line in lines:
            try:
                await self._repair_line(line)
            except (BrokerUnavailable, JetStreamError) as error:
                # It may concern this queue only: the jobs of the others must not wait.
                log.warning("messages_not_compared", team=line[0], queue=line[1], kind=line[2], error=str(error))
                is_complete = False
        return is_complete

    async def _repair_line(self, line: Line) -> None:
        await self._publisher.consumers.ensure(self._broker, *line)
        sent = self._turns.sent(line)
        found = await jobs_with_message(self._broker, kind_filter(*line))
        for job in self._turns.list_messages(line, found, sent):
            self._publisher.publish_again(job)

    def _reconnected(self) -> None:
        self._is_connection_new = True
        self.kick.set()
