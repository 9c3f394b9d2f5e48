"""What is read of a queue for an answer: whether the job has a message, and whether the consumer is paused."""

import asyncio
import time
from collections.abc import Callable

from edge_broker.connection.broker import Broker
from edge_broker.jetstream.consumer_info import list_consumers
from edge_broker.jetstream.stored import last_message
from edge_broker.subjects import JOBS, job_subject
from edge_schemas.life.model import JobRecord

FRESH_FOR_S = 1.0


class QueueReads:
    """Reads through the stream leader; many answers share one read of all consumers.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, broker: Broker, clock: Callable[[], float] = time.monotonic) -> None:
        self._broker = broker
        self._clock = clock
        self._paused: frozenset[str] = frozenset()
        self._good_until = float("-inf")
        self._reading = asyncio.Lock()

    async def is_paused(self, consumer: str) -> bool:
        """Whether an operator of NATS has paused a consumer; at most a second old.

        Raises:
            BrokerUnavailable: No answer.
        """
        async with self._reading:
            if self._clock() >= self._good_until:
                consumers, _ = await list_consumers(self._broker, JOBS)
                self._paused = frozenset(one["name"] for one in consumers if one.get("paused"))
                self._good_until = self._clock() + FRESH_FOR_S
            return consumer in self._paused

    async def has_message(self, record: JobRecord) -> bool:
        """Whether a waiting job has a message.

        Raises:
            BrokerUnavailable: No answer.
        """
        subject = job_subject(record.team, record.queue, record.kind, record.id)
        return await last_message(self._broker, JOBS, subject) is not None
