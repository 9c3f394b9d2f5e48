"""The metrics of a scheduler's executors, for Prometheus and for Airflow's own metrics (statsd or OTel).

All executors of a process share one registry and one listener and differ by the label `team`. The names in Airflow's
metrics are those of Prometheus with dots: `edge_relay.published` and so on, with the tags `team_name` and `queue`.
Airflow itself has the numbers of open slots, queued and running tasks of each executor.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib.metadata import version
from typing import Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from edge_bridge.airflow.dispatch_table import Verb
from edge_bridge.executor.order.metrics import WaitingJobsCollector
from edge_bridge.provider_info import VERSION
from edge_upkeep.order.queue_order import WaitingJobs

log = structlog.get_logger(__name__)

PUBLISH_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
"""The largest are for times when NATS is unreachable."""
STEPS = ("record", "message", "reconcile", "report", "expiry", "signature", "bundle")
ADOPTIONS = ("known", "undecided", "auxiliary", "returned")


@dataclass(frozen=True, slots=True)
class ExecutorStats:
    """The state of an executor at this moment.

    Attributes:
        backlog: Jobs whose record or message is still to be stored.
        held: Jobs whose message is held back until it is their turn.
        without_version: Jobs that wait for the version of their bundle.
        open_slots: Workloads that it would still accept from Airflow.
        queued: Jobs handed out that no worker has started.
        running: Jobs that run at a worker.
    """

    backlog: int
    held: int
    without_version: int
    open_slots: int
    queued: int
    running: int
    broker_connected: bool


class ExecutorMetrics:
    """The metrics of all executors of a process; each executor uses those that `of()` returns."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.published = Counter(
            "edge_executor_published", "Jobs published to NATS for the first time", ["team", "queue"], registry=registry
        )
        self.publish_failures = Counter(
            "edge_executor_publish_failures",
            "Failed attempts to publish a job to NATS; each is repeated",
            ["team"],
            registry=registry,
        )
        self.publish_seconds = Histogram(
            "edge_executor_publish_seconds",
            "From the hand-out by the scheduler until the job is in NATS, without the time for which it is held back",
            ["team"],
            buckets=PUBLISH_S,
            registry=registry,
        )
        self.reports = Counter(
            "edge_executor_reports",
            "Reports delivered to the scheduler: succeed, fail, run, follow, note; forget is not counted as news",
            ["team", "verb"],
            registry=registry,
        )
        self.adopted = Counter(
            "edge_executor_adopted",
            "Dispatches of a dead scheduler: known, undecided and auxiliary are followed, returned are queued again",
            ["team", "outcome"],
            registry=registry,
        )
        self.withdrawn = Counter(
            "edge_executor_withdrawn",
            "Waiting jobs that Airflow no longer wanted",
            ["team"],
            registry=registry,
        )
        self.republished = Counter(
            "edge_executor_republished",
            "Messages republished for jobs that wait again",
            ["team"],
            registry=registry,
        )
        self.refused = Counter(
            "edge_executor_refused", "Workloads that can't be sent to an edge site", ["team"], registry=registry
        )
        self.expired = Counter(
            "edge_executor_expired", "Jobs that waited for longer than queue_timeout", ["team"], registry=registry
        )
        self.aside = Counter(
            "edge_executor_put_aside",
            "Jobs for which a step failed for a reason of their own: the record can't be read (record), the message "
            "could not be repaired (message), the job is not signed or was altered (signature), the version of its "
            "bundle was not published in time (bundle), or the comparison with Airflow, a report or an expiry failed",
            ["team", "step"],
            registry=registry,
        )
        self._backlog = self._gauge(
            "edge_executor_publish_backlog", "Jobs whose record or message is still to be stored"
        )
        self._without_version = self._gauge(
            "edge_executor_jobs_without_bundle_version",
            "Jobs that wait until the version of their DAG bundle is published, or until the published ones are known",
        )
        self._open = self._gauge("edge_executor_open_slots", "Workloads that the executor would still accept")
        self._queued = self._gauge("edge_executor_queued_jobs", "Jobs handed out that no worker has started")
        self._running = self._gauge("edge_executor_running_jobs", "Jobs that run at a worker")
        self._connected = self._gauge("edge_executor_broker_connected", "1 while NATS is connected")
        self.waiting = WaitingJobsCollector()
        registry.register(self.waiting)
        build = Gauge("edge_executor_build_info", "Always 1", ["version", "airflow_version"], registry=registry)
        build.labels(VERSION, version("apache-airflow-core")).set(1)
        ProcessCollector(registry=registry)

    def of(self, team: str | None) -> "TeamMetrics":
        """The metrics of the executor of a team, or of the one without.

        They are exported from here on: Prometheus sees no increase in a series that begins with its first event.
        """
        name = team or ""
        for counter in (self.publish_failures, self.withdrawn, self.republished, self.refused, self.expired):
            counter.labels(name)
        for verb in Verb:
            self.reports.labels(name, verb.name.lower())
        for outcome in ADOPTIONS:
            self.adopted.labels(name, outcome)
        for step in STEPS:
            self.aside.labels(name, step)
        self.publish_seconds.labels(name)
        return TeamMetrics(self, team)

    def watch(self, team: str, stats: Callable[[], ExecutorStats]) -> None:
        """Call this at each scrape, in the listener's thread, for the state of a team's executor."""
        self._backlog.labels(team).set_function(lambda: stats().backlog)
        self._without_version.labels(team).set_function(lambda: stats().without_version)
        self._open.labels(team).set_function(lambda: stats().open_slots)
        self._queued.labels(team).set_function(lambda: stats().queued)
        self._running.labels(team).set_function(lambda: stats().running)
        self._connected.labels(team).set_function(lambda: stats().broker_connected)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, ["team"], registry=self.registry)


@cache
def process_metrics() -> ExecutorMetrics:
    """The metrics of this process."""
    return ExecutorMetrics()


class TeamMetrics:
    """The events in one executor. Each event is counted here and in Airflow's own metrics."""

    def __init__(self, metrics: ExecutorMetrics, team: str | None) -> None:
        self._metrics = metrics
        self._team = team or ""
        self._tags = {"team_name": team} if team else {}
        self._stats_failed = False

    def watch(self, stats: Callable[[], ExecutorStats], waiting: Callable[[], Iterable[WaitingJobs]]) -> None:
        """Call these at each scrape, in the listener's thread."""
        self._metrics.watch(self._team, stats)
        self._metrics.waiting.watch(self._team, waiting)

    def published(self, queue: str, took_s: float) -> None:
        """A job is in NATS for the first time."""
        self._metrics.published.labels(self._team, queue).inc()
        self._metrics.publish_seconds.labels(self._team).observe(took_s)
        self._incr("published", queue=queue)
        self._send("timing", "publish_duration", timedelta(seconds=took_s))

    def publish_failed(self) -> None:
        """An attempt failed; it is repeated."""
        self._metrics.publish_failures.labels(self._team).inc()
        self._incr("publish_failures")

    def reported(self, verb: Verb) -> None:
        """A report about a current dispatch was delivered to the scheduler."""
        name = verb.name.lower()
        self._metrics.reports.labels(self._team, name).inc()
        self._incr(f"reports.{name}")

    def adopted(self, outcome: str, dispatches: int = 1) -> None:
        """Dispatches of a dead scheduler were adopted, or returned to Airflow."""
        if dispatches:
            self._metrics.adopted.labels(self._team, outcome).inc(dispatches)
            self._incr(f"adopted.{outcome}", dispatches)

    def withdrawn(self) -> None:
        """A waiting job that Airflow no longer wanted was ended, or has to stop because it was started meanwhile."""
        self._metrics.withdrawn.labels(self._team).inc()
        self._incr("withdrawn")

    def republished(self) -> None:
        """The message of a job that waits again was published again."""
        self._metrics.republished.labels(self._team).inc()
        self._incr("republished")

    def refused(self) -> None:
        """A workload can't be sent."""
        self._metrics.refused.labels(self._team).inc()
        self._incr("refused")

    def put_aside(self, step: str) -> None:
        """A step failed for one job, for a reason that concerns only this job."""
        self._metrics.aside.labels(self._team, step).inc()
        self._incr(f"put_aside.{step}")

    def expired(self) -> None:
        """A job waited for too long."""
        self._metrics.expired.labels(self._team).inc()
        self._incr("expired")

    def send_stats(self, stats: ExecutorStats) -> None:
        """Send what Airflow's own metrics do not have of every executor, and can't ask for."""
        self._send("gauge", "publish_backlog", stats.backlog)
        self._send("gauge", "held_back_jobs", stats.held)
        self._send("gauge", "broker_connected", int(stats.broker_connected))

    def _incr(self, name: str, count: int = 1, **tags: str) -> None:
        self._send("incr", name, count, **tags)

    def _send(self, kind: Literal["incr", "gauge", "timing"], name: str, value: float | timedelta, **tags: str) -> None:
        try:
            from airflow.observability.stats import Stats

            getattr(Stats, kind)(f"edge_relay.{name}", value, tags={**self._tags, **tags})
        except Exception:
            # A failing metrics client must not stop a job; and it would fail, and be logged, at each event.
            if not self._stats_failed:
                log.exception("airflow_metrics_failed", metric=name)
            self._stats_failed = True
