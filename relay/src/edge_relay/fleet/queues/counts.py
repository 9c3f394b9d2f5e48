"""What the server reports of each queue's consumers, and what the records say, at one moment."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.jetstream.consumer_info import list_consumers
from edge_broker.subjects import JOBS, parse_job_subject
from edge_relay.dispatch.state.watched_job import WatchedJob
from edge_relay.fleet.lists.slices import in_slices
from edge_relay.fleet.queues.flow import QueueKey
from edge_schemas.life.model import JobState
from edge_schemas.wire.jobs import JobKind


@dataclass(slots=True)
class ConsumerCounts:
    """Messages of a queue: not granted, granted, and those of the granted that were delivered more than once."""

    waiting: int = 0
    granted: int = 0
    redelivered: int = 0


@dataclass(slots=True)
class RecordCounts:
    """Unfinished jobs of a queue by their records.

    Attributes:
        waiting: That wait and are not parked.
        running_at: Those that run, by their worker.
        waiting_kinds: Of those that wait and are not parked.
        oldest: Since when the job that has waited longest waits, as Unix time.
    """

    waiting: int = 0
    running: int = 0
    parked: int = 0
    waiting_kinds: set[JobKind] = field(default_factory=set)
    oldest: float | None = None
    running_at: Counter[str | None] = field(default_factory=Counter)

    def add(self, job: WatchedJob) -> None:
        """Count a job of the queue."""
        if job.state is not JobState.WAITING:
            self.running += 1
            self.running_at[job.holder] += 1
        elif job.is_parked:
            self.parked += 1
        else:
            self.waiting += 1
            self.waiting_kinds.add(job.job_kind)
            if self.oldest is None or job.waits_since < self.oldest:
                self.oldest = job.waits_since


async def read_consumers(broker: Broker) -> dict[QueueKey, ConsumerCounts]:
    """Of each queue that has a consumer.

    Raises:
        BrokerUnavailable: Not all could be read.
        JetStreamError: There is no such stream.
    """
    found, leaderless = await list_consumers(broker, JOBS)
    if leaderless:
        raise BrokerUnavailable(f"{len(leaderless)} consumers of {JOBS} have no leader")
    counts: dict[QueueKey, ConsumerCounts] = {}
    for info in found:
        try:
            team, queue, *_ = parse_job_subject(info["config"].get("filter_subject", ""))
        except ValueError:
            continue  # of another application
        of_queue = counts.setdefault((team, queue), ConsumerCounts())
        of_queue.waiting += info["num_pending"]
        of_queue.granted += info["num_ack_pending"]
        of_queue.redelivered += info.get("num_redelivered", 0)
    return counts


async def count_records(jobs: Iterable[WatchedJob]) -> dict[QueueKey, RecordCounts]:
    """Of each queue with an unfinished job. Polls do not wait for many jobs."""
    counts: dict[QueueKey, RecordCounts] = {}
    async for some in in_slices(jobs):
        for job in some:
            key = (job.team, job.queue)
            of_queue = counts.get(key)
            if of_queue is None:
                of_queue = counts[key] = RecordCounts()
            of_queue.add(job)
    return counts
