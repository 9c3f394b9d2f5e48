"""What waits in each queue, for Prometheus."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from edge_upkeep.order.queue_order import WaitingJobs

QUEUE = ("team", "queue")


class WaitingJobsCollector(Collector):
    """The gauges of the waiting jobs of all executors of a process."""

    def __init__(self) -> None:
        self._executors: dict[str, Callable[[], Iterable[WaitingJobs]]] = {}

    def watch(self, team: str, waiting: Callable[[], Iterable[WaitingJobs]]) -> None:
        """Call this at each scrape for the waiting jobs of a team's executor."""
        self._executors[team] = waiting

    def describe(self) -> Iterable[Metric]:
        """The names, without samples."""
        return _families()

    def collect(self) -> Iterator[Metric]:
        """The gauges of each queue with waiting jobs."""
        held, oldest = _families()
        now = datetime.now(UTC)
        for team, waiting in self._executors.items():
            for jobs in waiting():
                held.add_metric((team, jobs.queue), jobs.held)
                oldest.add_metric((team, jobs.queue), max(0.0, (now - jobs.oldest).total_seconds()))
        yield held
        yield oldest


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily(
            "edge_executor_held_back_jobs",
            "Waiting jobs that the executor holds back: the queue has as many messages in NATS as free slots need",
            labels=QUEUE,
        ),
        GaugeMetricFamily(
            "edge_executor_oldest_waiting_job_age_seconds",
            "Age of the oldest waiting job of this executor, held back or not; absent if none waits",
            labels=QUEUE,
        ),
    )
