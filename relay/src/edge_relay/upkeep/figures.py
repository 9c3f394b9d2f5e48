"""What a replica does for submitted jobs, and how many of them there are, for Prometheus."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from edge_relay.metrics.replica import Metrics, queue_of
from edge_schemas.life.events import GiveUp
from edge_schemas.life.model import JobRecord

STAGES = ("waiting", "running", "stopping", "dead")
GIVE_UP_REASONS = ("silence", "missing")
STEPS = ("message", "give_up", "expiry")

Stages = Mapping[tuple[str, str, str], int]
"""Numbers of jobs by team, queue and stage."""


class UpkeepFigures:
    """Counts what this replica does; of two replicas that do the same, the one counts that changed the record."""

    def __init__(self, metrics: Metrics) -> None:
        self._parked = metrics.parked
        registry = metrics.registry
        self._published = _counter(
            registry,
            "edge_relay_submitted_messages",
            "Messages of submitted jobs that were stored or found; again, after a message was missing",
            ("again",),
            ("no", "yes"),
        )
        self._give_ups = _counter(
            registry,
            "edge_relay_give_ups",
            "Submitted jobs given up: silence, no contact for longer than tolerated; missing, the worker came back "
            "without the job",
            ("reason",),
            GIVE_UP_REASONS,
        )
        self._expired = _counter(registry, "edge_relay_expired_jobs", "Submitted jobs that waited past their time")
        self._put_aside = _counter(
            registry, "edge_relay_put_aside", "Faults in looking after one submitted job, by step", ("step",), STEPS
        )

    def published(self, *, again: bool) -> None:
        """A message is stored."""
        self._published.labels("yes" if again else "no").inc()

    def given_up(self, _: JobRecord, after: JobRecord, event: GiveUp) -> None:
        """A job was given up here, not by another replica."""
        self._give_ups.labels("silence" if event.lacking_incarnation is None else "missing").inc()
        if after.parked is not None:
            self._parked.labels(*queue_of(after)).inc()

    def expired(self) -> None:
        """A job was ended because its time was over."""
        self._expired.inc()

    def put_aside(self, step: str) -> None:
        """A job could not be handled, because of a fault."""
        self._put_aside.labels(step).inc()


class SubmittedJobs(Collector):
    """How many submitted jobs there are; a queue that once had some is exported with 0 from then on."""

    def __init__(self, counts: Callable[[], Stages]) -> None:
        self._counts = counts

    @override
    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        jobs = GaugeMetricFamily(
            "edge_queue_submitted_jobs",
            "Unfinished jobs that producers submitted: waiting, with a message or held back; running; stopping; dead, "
            "parked until an operator acts",
            labels=("team", "queue", "stage"),
        )
        counts = Tally(self._counts())
        for team, queue in sorted({(team, queue) for team, queue, _ in counts}):
            for stage in STAGES:
                jobs.add_metric((team, queue, stage), counts[team, queue, stage])
        yield jobs

    def describe(self) -> Iterator[Metric]:
        """Names, types and labels."""
        yield from self.collect()


def _counter(
    registry: CollectorRegistry, name: str, about: str, labels: Iterable[str] = (), values: Iterable[str] = ()
) -> Counter:
    counter = Counter(name, about, labels, registry=registry)
    for value in values:
        counter.labels(value)
    return counter
