"""The state that all replicas share, read in the background: no scrape and no poll waits for a read.

While NATS is unreachable the last figures stay, and their age grows.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from logging import DEBUG, WARNING

import structlog
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_relay.metrics.queues import Queue, QueueFigures, QueueReader, queue_families
from edge_relay.metrics.streams import StoreFigures, StreamFigures, read_store, read_streams, stream_families

log = structlog.get_logger(__name__)

REFRESH_EVERY_S = 10.0
REFRESH_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class _Figures:
    """The last complete read."""

    queues: Mapping[Queue, QueueFigures] = field(default_factory=dict)
    streams: Mapping[str, StreamFigures] = field(default_factory=dict)
    store: StoreFigures | None = None


class SharedState(Collector):
    """Queues, streams and store. Run `run()` in a task group.

    Args:
        broker: Connected to the server that is read.
        watched: Set while a watched bucket is complete; without all of them no figures are read.
        clock: Monotonic seconds.
    """

    def __init__(
        self, broker: Broker, watched: Iterable[asyncio.Event], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._broker = broker
        self._watched = tuple(watched)
        self._clock = clock
        self._queues = QueueReader(broker)
        self._figures = _Figures()
        self._refreshed_at = clock()
        self._failed = False

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            await self._broker.wait_connected()
            try:
                async with asyncio.timeout(REFRESH_TIMEOUT_S):
                    await self._refresh()
                self._failed = False
            except (BrokerUnavailable, JetStreamError, TimeoutError) as error:
                # A warning once: the cause may last.
                log.log(
                    DEBUG if self._failed else WARNING, "shared_state_not_refreshed", error=str(error) or repr(error)
                )
                self._failed = True
            await asyncio.sleep(REFRESH_EVERY_S * random.uniform(0.9, 1.1))  # noqa: S311  # jitter, nothing secret

    async def _refresh(self) -> None:
        """Replace all figures at once.

        Raises:
            BrokerUnavailable: Not everything could be read.
            JetStreamError: The server refused.
        """
        for bucket in self._watched:
            await bucket.wait()
        streams = await read_streams(self._broker)
        queues = await self._queues.read()
        self._figures = _Figures(queues, streams, await read_store(self._broker))
        self._refreshed_at = self._clock()

    @override
    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        age = GaugeMetricFamily(
            "edge_shared_state_age_seconds",
            "Time since this replica last read all queues, streams and workers; grows while NATS is unreachable",
        )
        age.add_metric((), self._clock() - self._refreshed_at)
        yield age
        figures = self._figures
        yield from queue_families(figures.queues)
        yield from stream_families(figures.streams, figures.store)

    def describe(self) -> Iterator[Metric]:
        """Names, types and labels."""
        yield from self.collect()
