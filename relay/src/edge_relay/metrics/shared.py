"""What all replicas share, looked at in the background: a scrape asks nobody, and no poll waits for a look.

While NATS is away the last figures stay, and their age tells.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import structlog
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_relay.metrics.queues import Queue, QueueFigures, QueueLook, queue_families
from edge_relay.metrics.streams import StoreFigures, StreamFigures, look_at_store, look_at_streams, stream_families

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 10.0
LOOK_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class _Figures:
    """The last complete look."""

    queues: Mapping[Queue, QueueFigures] = field(default_factory=dict)
    streams: Mapping[str, StreamFigures] = field(default_factory=dict)
    store: StoreFigures | None = None


class SharedState(Collector):
    """Queues, streams and store. Run `run()` in a task group.

    Args:
        broker: Whom to ask.
        watched: Set while a watched bucket is complete; without all of them no figures are read.
        clock: Monotonic seconds.
    """

    def __init__(
        self, broker: Broker, watched: Iterable[asyncio.Event], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._broker = broker
        self._watched = tuple(watched)
        self._clock = clock
        self._queues = QueueLook(broker)
        self._figures = _Figures()
        self._looked_at = clock()
        self._failed = False

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            await self._broker.wait_connected()
            try:
                async with asyncio.timeout(LOOK_TIMEOUT_S):
                    await self._look()
                self._failed = False
            except (BrokerUnavailable, JetStreamError, TimeoutError) as error:
                # Once: what keeps it from looking may last.
                log.log(10 if self._failed else 30, "shared_state_not_seen", error=str(error) or repr(error))
                self._failed = True
            await asyncio.sleep(LOOK_EVERY_S * random.uniform(0.9, 1.1))  # noqa: S311  # jitter, nothing secret

    async def _look(self) -> None:
        """Take over all figures at once.

        Raises:
            BrokerUnavailable: Not everything could be read.
            JetStreamError: The server refused.
        """
        for bucket in self._watched:
            await bucket.wait()
        streams = await look_at_streams(self._broker)
        queues = await self._queues.look()
        self._figures = _Figures(queues, streams, await look_at_store(self._broker))
        self._looked_at = self._clock()

    @override
    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        age = GaugeMetricFamily(
            "edge_shared_state_age_seconds",
            "Since this replica last saw all queues, streams and workers; grows while NATS is away",
        )
        age.add_metric((), self._clock() - self._looked_at)
        yield age
        figures = self._figures
        yield from queue_families(figures.queues)
        yield from stream_families(figures.streams, figures.store)

    def describe(self) -> Iterator[Metric]:
        """Names, types and labels."""
        yield from self.collect()
