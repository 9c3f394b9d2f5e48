"""The messages of waiting jobs in the stream, and the consumers that deliver them."""

import asyncio
from collections import defaultdict

from edge_broker.connection.broker import Broker
from edge_broker.jetstream.stream_info import subjects_with_messages
from edge_broker.layout import ensure_consumer
from edge_broker.subjects import JOBS
from edge_schemas.wire.jobs import JobKind

Line = tuple[str | None, str, JobKind]
"""The jobs of one kind in a queue: team, plain name and kind."""


class Consumers:
    """The consumers that are known to exist, since the connection was made."""

    def __init__(self) -> None:
        self._known: set[Line] = set()
        self._making: defaultdict[Line, asyncio.Lock] = defaultdict(asyncio.Lock)

    def clear(self) -> None:
        """Nothing is known of another server."""
        self._known.clear()

    async def ensure(self, broker: Broker, team: str | None, queue: str, kind: JobKind) -> None:
        """Make the consumer of a kind in a queue; callers for the same one continue in the order in which they came.

        Raises:
            JetStreamError: A consumer of that name exists with another configuration.
            BrokerUnavailable: Try again.
        """
        line = (team, queue, kind)
        async with self._making[line]:
            if line not in self._known:
                await ensure_consumer(broker, *line)
                self._known.add(line)


async def jobs_with_message(broker: Broker, subjects: str) -> set[str]:
    """The jobs that have a message on these subjects, from the stream leader.

    Raises:
        JetStreamError: NATS refused.
        BrokerUnavailable: NATS could not be asked.
    """
    # The job's id is the last token, whatever else a foreign subject contains.
    return {subject.rpartition(".")[2] for subject in await subjects_with_messages(broker, JOBS, subjects)}
