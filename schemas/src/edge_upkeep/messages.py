"""The messages of waiting jobs in the stream, and the consumers that deliver them."""

import asyncio
from collections import defaultdict

from edge_broker.connection.broker import Broker
from edge_broker.jetstream.stream_info import subjects_with_messages
from edge_broker.layout import ensure_consumer
from edge_broker.subjects import JOBS


class Consumers:
    """The consumers of queues that are known to exist, since the connection was made."""

    def __init__(self) -> None:
        self._known: set[tuple[str | None, str]] = set()
        self._making: defaultdict[tuple[str | None, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    def clear(self) -> None:
        """Nothing is known of another server."""
        self._known.clear()

    async def ensure(self, broker: Broker, team: str | None, queue: str) -> None:
        """Make the consumer of a queue; callers for the same queue continue in the order in which they came.

        Raises:
            JetStreamError: A consumer of that name exists with another configuration.
            BrokerUnavailable: Try again.
        """
        async with self._making[team, queue]:
            if (team, queue) not in self._known:
                await ensure_consumer(broker, team, queue)
                self._known.add((team, queue))


async def jobs_with_message(broker: Broker, subjects: str) -> set[str]:
    """The jobs that have a message on these subjects, from the stream leader.

    Raises:
        JetStreamError: NATS refused.
        BrokerUnavailable: NATS could not be asked.
    """
    # The job's id is the last token, whatever else a foreign subject contains.
    return {subject.rpartition(".")[2] for subject in await subjects_with_messages(broker, JOBS, subjects)}
