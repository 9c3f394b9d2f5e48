"""The figures of each queue, read from the server in a few calls."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
from prometheus_client.core import GaugeMetricFamily
from pydantic import AwareDatetime, TypeAdapter, ValidationError

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.jetstream.consumer_info import ConsumerInfo, list_consumers
from edge_broker.jetstream.stored import first_message
from edge_broker.subjects import JOBS, parse_job_subject, queue_filter
from edge_relay.metrics.replica import QUEUE
from edge_schemas.wire.offline import OfflinePolicy

READS_AT_ONCE = 16
_INSTANT: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)

Queue = tuple[str, str]
"""Team, empty where there is none, and plain name: the values of the labels."""


@dataclass(frozen=True, slots=True)
class Oldest:
    """The oldest job of a queue.

    Attributes:
        tolerance_s: None if the message has none.
    """

    age_s: float
    tolerance_s: float | None


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """A queue at the moment of the last read."""

    waiting: int
    granted: int
    polls_waiting: int
    oldest: Oldest | None

    @property
    def oldest_age_s(self) -> float:
        """0 if no job waits."""
        return self.oldest.age_s if self.oldest else 0.0


_FAMILIES: tuple[tuple[str, str, Callable[[QueueFigures], float | None]], ...] = (
    (
        "edge_queue_waiting_jobs",
        "Jobs with a message in NATS that were not granted to a worker yet",
        lambda queue: queue.waiting,
    ),
    (
        "edge_queue_granted_jobs",
        "Jobs that were granted and not started yet, or were released and are not offered for some seconds",
        lambda queue: queue.granted,
    ),
    (
        "edge_queue_oldest_job_age_seconds",
        "Age of the job with the oldest message in NATS, 0 if there is none",
        lambda queue: queue.oldest_age_s,
    ),
    (
        "edge_queue_tolerance_seconds",
        "Offline tolerance of the oldest job that was not started; absent if there is none",
        lambda queue: queue.oldest.tolerance_s if queue.oldest else None,
    ),
    (
        "edge_queue_polls_waiting",
        "Pulls of all replicas that wait: at most two of each for each kind of jobs, however many polls wait there",
        lambda queue: queue.polls_waiting,
    ),
)


def queue_families(figures: Mapping[Queue, QueueFigures]) -> Iterator[GaugeMetricFamily]:
    """One family for each figure; without queues they have no samples."""
    for name, about, value_of in _FAMILIES:
        family = GaugeMetricFamily(name, about, labels=QUEUE)
        for queue, found in figures.items():
            value = value_of(found)
            if value is not None:
                family.add_metric(queue, value)
        yield family


class QueueReader:
    """Reads the figures of all queues."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def read(self) -> dict[Queue, QueueFigures]:
        """The figures of every queue: sums over those of its consumers that belong to this installation.

        Raises:
            BrokerUnavailable: Not all of them could be read.
            JetStreamError: The server refused.
        """
        consumers: defaultdict[Queue, list[ConsumerInfo]] = defaultdict(list)
        for info in await self._consumers():
            if (queue := _queue_of(info)) is not None:
                consumers[queue].append(info)
        oldest = await self._oldest([queue for queue, infos in consumers.items() if any(map(_has_jobs, infos))])
        return {
            queue: QueueFigures(
                waiting=sum(info["num_pending"] for info in infos),
                granted=sum(info["num_ack_pending"] for info in infos),
                polls_waiting=sum(info["num_waiting"] for info in infos),
                oldest=oldest.get(queue),
            )
            for queue, infos in consumers.items()
        }

    async def _consumers(self) -> list[ConsumerInfo]:
        found, leaderless = await list_consumers(self._broker, JOBS)
        if leaderless:
            raise BrokerUnavailable(f"{len(leaderless)} consumers of {JOBS} have no leader")
        return found

    async def _oldest(self, queues: list[Queue]) -> dict[Queue, Oldest]:
        found: dict[Queue, Oldest] = {}
        for first in range(0, len(queues), READS_AT_ONCE):
            some = queues[first : first + READS_AT_ONCE]
            read = zip(some, await asyncio.gather(*map(self._oldest_of, some)), strict=True)
            found |= {queue: oldest for queue, oldest in read if oldest is not None}
        return found

    async def _oldest_of(self, queue: Queue) -> Oldest | None:
        """None if the queue has become empty."""
        team, name = queue
        message = await first_message(self._broker, JOBS, queue_filter(team or None, name))
        if message is None:
            return None
        age = datetime.now(UTC) - (_handed_out_at(message.data) or message.stored_at)
        return Oldest(max(0.0, age.total_seconds()), _tolerance_s(message.data))


def _queue_of(info: ConsumerInfo) -> Queue | None:
    """The queue of a consumer; None if it belongs to another application."""
    try:
        team, queue, *_ = parse_job_subject(info["config"].get("filter_subject", ""))
    except ValueError:
        return None
    return team or "", queue


def _has_jobs(info: ConsumerInfo) -> bool:
    return info["num_pending"] + info["num_ack_pending"] > 0


def _handed_out_at(job: bytes) -> datetime | None:
    """When the scheduler handed out the job in a message; None if the message holds none."""
    try:
        return _INSTANT.validate_python(orjson.loads(job)["published_at"])
    except (ValueError, LookupError, TypeError, ValidationError):
        return None


def _tolerance_s(job: bytes) -> float | None:
    """The tolerance in a job's message; None if the message holds none."""
    try:
        return OfflinePolicy.model_validate(orjson.loads(job)["offline"]).tolerance_s
    except (ValueError, LookupError, TypeError, ValidationError):
        return None
