"""What the executors of a scheduler count: for Prometheus, and the same for Airflow's own metrics (statsd or OTel).

All executors of a process share one registry and one listener; the label `team` tells them apart. Airflow's names are
those of Prometheus with dots: `edge_relay.published` and so on, with the tags `team_name` and `queue`. Open, queued and
running figures Airflow has of each executor already.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib.metadata import version
from typing import Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from edge_bridge.airflow.dispatch_table import Verb
from edge_bridge.provider_info import VERSION

log = structlog.get_logger(__name__)

PUBLISH_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
"""While NATS is away it takes as long as that."""
ADOPTIONS = ("known", "undecided", "auxiliary", "returned")


@dataclass(frozen=True, slots=True)
class ExecutorStats:
    """How an executor stands at this moment.

    Attributes:
        backlog: Jobs that are not in NATS yet.
        open_slots: What it would still take of Airflow.
        queued: Jobs handed out that no worker has started.
        running: Jobs that run at a worker.
    """

    backlog: int
    open_slots: int
    queued: int
    running: int
    broker_connected: bool


class ExecutorMetrics:
    """The metrics of all executors of a process; `of()` is what one of them uses."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.published = Counter(
            "edge_executor_published", "Jobs put into NATS for the first time", ["team", "queue"], registry=registry
        )
        self.publish_failures = Counter(
            "edge_executor_publish_failures",
            "Attempts to put a job into NATS that failed; each is repeated",
            ["team"],
            registry=registry,
        )
        self.publish_seconds = Histogram(
            "edge_executor_publish_seconds",
            "From the hand-out by the scheduler until a job is in NATS",
            ["team"],
            buckets=PUBLISH_S,
            registry=registry,
        )
        self.reports = Counter(
            "edge_executor_reports",
            "What the scheduler was told of dispatches: succeed, fail, run, follow, note; forget is no news",
            ["team", "verb"],
            registry=registry,
        )
        self.adopted = Counter(
            "edge_executor_adopted",
            "Dispatches of a dead scheduler: known, undecided and auxiliary are followed, returned is queued again",
            ["team", "outcome"],
            registry=registry,
        )
        self.withdrawn = Counter(
            "edge_executor_withdrawn", "Jobs that Airflow no longer wanted, found waiting", ["team"], registry=registry
        )
        self.republished = Counter(
            "edge_executor_republished", "Messages put back for jobs that wait anew", ["team"], registry=registry
        )
        self.refused = Counter(
            "edge_executor_refused", "Workloads that can't be sent to an edge site", ["team"], registry=registry
        )
        self.expired = Counter(
            "edge_executor_expired", "Jobs that waited for longer than queue_timeout", ["team"], registry=registry
        )
        self._backlog = self._gauge("edge_executor_publish_backlog", "Jobs that are not in NATS yet")
        self._open = self._gauge("edge_executor_open_slots", "Workloads that the executor would still take")
        self._queued = self._gauge("edge_executor_queued_jobs", "Jobs handed out that no worker has started")
        self._running = self._gauge("edge_executor_running_jobs", "Jobs that run at a worker")
        self._connected = self._gauge("edge_executor_broker_connected", "1 while the connection to NATS stands")
        build = Gauge("edge_executor_build_info", "Always 1", ["version", "airflow_version"], registry=registry)
        build.labels(VERSION, version("apache-airflow-core")).set(1)
        ProcessCollector(registry=registry)

    def of(self, team: str | None) -> "TeamMetrics":
        """The metrics of the executor of a team, or of the one without.

        They are exported from here on: a series that begins with its first event shows Prometheus no increase.
        """
        name = team or ""
        for counter in (self.publish_failures, self.withdrawn, self.republished, self.refused, self.expired):
            counter.labels(name)
        for verb in Verb:
            self.reports.labels(name, verb.name.lower())
        for outcome in ADOPTIONS:
            self.adopted.labels(name, outcome)
        self.publish_seconds.labels(name)
        return TeamMetrics(self, team)

    def watch(self, team: str, stats: Callable[[], ExecutorStats]) -> None:
        """Ask this at each scrape, in the listener's thread, how a team's executor stands."""
        self._backlog.labels(team).set_function(lambda: stats().backlog)
        self._open.labels(team).set_function(lambda: stats().open_slots)
        self._queued.labels(team).set_function(lambda: stats().queued)
        self._running.labels(team).set_function(lambda: stats().running)
        self._connected.labels(team).set_function(lambda: stats().broker_connected)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, ["team"], registry=self.registry)


@cache
def process_metrics() -> ExecutorMetrics:
    """Those of this process."""
    return ExecutorMetrics()


class TeamMetrics:
    """What happened in one executor. Each event is counted here and in Airflow's own metrics."""

    def __init__(self, metrics: ExecutorMetrics, team: str | None) -> None:
        self._metrics = metrics
        self._team = team or ""
        self._tags = {"team_name": team} if team else {}
        self._stats_failed = False

    def watch(self, stats: Callable[[], ExecutorStats]) -> None:
        """Ask this at each scrape, in the listener's thread."""
        self._metrics.watch(self._team, stats)

    def published(self, queue: str, took_s: float) -> None:
        """A job is in NATS for the first time."""
        self._metrics.published.labels(self._team, queue).inc()
        self._metrics.publish_seconds.labels(self._team).observe(took_s)
        self._incr("published", queue=queue)
        self._tell("timing", "publish_duration", timedelta(seconds=took_s))

    def publish_failed(self) -> None:
        """An attempt failed; it is repeated."""
        self._metrics.publish_failures.labels(self._team).inc()
        self._incr("publish_failures")

    def reported(self, verb: Verb) -> None:
        """The scheduler was told something about a current dispatch."""
        name = verb.name.lower()
        self._metrics.reports.labels(self._team, name).inc()
        self._incr(f"reports.{name}")

    def adopted(self, outcome: str, dispatches: int = 1) -> None:
        """Dispatches of a scheduler that is gone were looked at."""
        if dispatches:
            self._metrics.adopted.labels(self._team, outcome).inc(dispatches)
            self._incr(f"adopted.{outcome}", dispatches)

    def withdrawn(self) -> None:
        """A waiting job that Airflow no longer wanted was ended, or one started meanwhile told to stop."""
        self._metrics.withdrawn.labels(self._team).inc()
        self._incr("withdrawn")

    def republished(self) -> None:
        """The message of a job that waits anew was put back."""
        self._metrics.republished.labels(self._team).inc()
        self._incr("republished")

    def refused(self) -> None:
        """A workload can't be sent."""
        self._metrics.refused.labels(self._team).inc()
        self._incr("refused")

    def expired(self) -> None:
        """A job waited for too long."""
        self._metrics.expired.labels(self._team).inc()
        self._incr("expired")

    def send_stats(self, stats: ExecutorStats) -> None:
        """Send what Airflow's own metrics do not have of every executor, and can't ask for."""
        self._tell("gauge", "publish_backlog", stats.backlog)
        self._tell("gauge", "broker_connected", int(stats.broker_connected))

    def _incr(self, name: str, count: int = 1, **tags: str) -> None:
        self._tell("incr", name, count, **tags)

    def _tell(self, kind: Literal["incr", "gauge", "timing"], name: str, value: float | timedelta, **tags: str) -> None:
        try:
            from airflow.observability.stats import Stats

            getattr(Stats, kind)(f"edge_relay.{name}", value, tags={**self._tags, **tags})
        except Exception:
            # Nothing that a metrics client has to say may stop a job; and it would say it again at each.
            if not self._stats_failed:
                log.exception("airflow_metrics_failed", metric=name)
            self._stats_failed = True
