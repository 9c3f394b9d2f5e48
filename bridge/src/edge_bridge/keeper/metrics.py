"""The metrics of a keeper: events counted in a registry of its own, and its state, read at each scrape.

Labels come from records, from the closed list of call classes or from the code, never from data that a worker sends.
"""

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from edge_bridge.provider_info import VERSION
from edge_broker.connection.broker import Broker
from edge_broker.record_mover import RecordMover
from edge_schemas.gate.execution_paths import CallClass, call_class, split_path
from edge_schemas.life.events import GiveUp
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.errors import EdgeError
from edge_service.body_memory import MemoryLimit

if TYPE_CHECKING:
    from edge_bridge.keeper.cluster_view import ClusterView

TICK_S = 0.5
HEARTBEAT_OUTCOMES = ("ok", "refused", "failed")
UNWANTED_KINDS = ("gone", "redispatched", "state")
STEPS = ("record", "entry", "withdrawal", "give_up", "heartbeat", "signature")
GIVE_UP_REASONS = ("silence", "missing")
_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LAG_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


def _class_of(path: str) -> CallClass:
    """The class of a call by its encoded path, which may be malformed."""
    try:
        return call_class(split_path(path))
    except EdgeError:
        return CallClass.OTHER


class KeeperMetrics:
    """The events in one keeper."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._heartbeats = Counter(
            "edge_keeper_heartbeats",
            "Heartbeats sent to Airflow for tasks: ok; refused by Airflow; failed, or without an answer",
            ["outcome"],
            registry=registry,
        )
        self._stop_requests = Counter(
            "edge_keeper_stop_requests",
            "Running jobs that have to stop because the task instance was cleared, retried or deleted (gone), has "
            "another dispatch (redispatched) or a state in which Airflow wants no run (state)",
            ["reason"],
            registry=registry,
        )
        self._withdrawals = Counter(
            "edge_keeper_withdrawals",
            "Waiting jobs ended, for the reasons that stop running jobs: see edge_keeper_stop_requests_total",
            ["reason"],
            registry=registry,
        )
        self._give_ups = Counter(
            "edge_keeper_give_ups",
            "Jobs given up: silence, no contact for longer than tolerated; missing, its worker came back without it",
            ["reason"],
            registry=registry,
        )
        self._parked = Counter(
            "edge_keeper_parked_jobs",
            "Jobs parked because their workers were lost too often before user code ran",
            registry=registry,
        )
        self._put_aside = Counter(
            "edge_keeper_put_aside",
            "What failed for a reason of its own: a record or a worker's entry that can't be read, the withdrawal, the "
            "give-up or the heartbeat of one job, or a call for a job that is not signed or was altered (signature)",
            ["step"],
            registry=registry,
        )
        self._token_mints = Counter(
            "edge_keeper_token_mints", "Tokens minted, one for each try of a call", registry=registry
        )
        self._gate_calls = Counter(
            "edge_keeper_gate_calls",
            "Calls of jobs answered to relays, by HTTP status",
            ["call", "status"],
            registry=registry,
        )
        self._gate_seconds = Histogram(
            "edge_keeper_gate_seconds",
            "From the arrival of a job's call to its answer, or to the beginning of an answer that is passed on",
            ["call"],
            buckets=_LATENCY_S,
            registry=registry,
        )
        self._api_seconds = Histogram(
            "edge_keeper_api_seconds",
            "Response time of the api-server to one try of a call, up to the beginning of an answer that is passed on; "
            "tries without an answer do not count",
            ["call"],
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.body_bytes = Gauge(
            "edge_keeper_body_bytes",
            "Bytes of calls and answers of jobs in memory, and of answers that are passed on and have not arrived yet",
            registry=registry,
        )
        self._limited = Counter(
            "edge_keeper_limited",
            "Bodies of calls or answers that were refused for want of memory: that of the keeper (body_memory) or that "
            "of one worker (body_memory_of_worker)",
            ["limit"],
            registry=registry,
        )
        self._lag = Histogram(
            "edge_keeper_event_loop_lag_seconds",
            f"How late a timer of {TICK_S:g} s fires: the event loop was blocked for that time",
            buckets=_LAG_S,
            registry=registry,
        )
        self._begin_with_0()
        for of_process in (ProcessCollector, PlatformCollector, GCCollector):
            of_process(registry=registry)

    def _begin_with_0(self) -> None:
        """Prometheus sees no increase in a series that begins with its first event."""
        for counter, values in (
            (self._heartbeats, HEARTBEAT_OUTCOMES),
            (self._stop_requests, UNWANTED_KINDS),
            (self._withdrawals, UNWANTED_KINDS),
            (self._give_ups, GIVE_UP_REASONS),
            (self._put_aside, STEPS),
            (self._limited, tuple(MemoryLimit)),
        ):
            for value in values:
                counter.labels(value)

    def heartbeat_sent(self, outcome: str) -> None:
        """A heartbeat was sent for a task: `ok`, `refused` or `failed`."""
        self._heartbeats.labels(outcome).inc()

    def withdrawn(self, after: JobRecord, kind: str) -> None:
        """Airflow no longer wanted a job."""
        counter = self._stop_requests if after.state is JobState.STOPPING else self._withdrawals
        counter.labels(kind).inc()

    def given_up(self, event: GiveUp) -> None:
        """A job was given up."""
        self._give_ups.labels("silence" if event.lacking_incarnation is None else "missing").inc()

    def parked(self) -> None:
        """A job was given up too often before user code ran."""
        self._parked.inc()

    def put_aside(self, step: str) -> None:
        """A step failed for one record, entry or job, for a reason that concerns nothing else."""
        self._put_aside.labels(step).inc()

    def token_minted(self) -> None:
        """A token was minted."""
        self._token_mints.inc()

    def gate_answered(self, path: str, status: int, took_s: float) -> None:
        """A job's call was answered, whatever the answer."""
        call = _class_of(path)
        self._gate_calls.labels(call, status).inc()
        self._gate_seconds.labels(call).observe(took_s)

    def api_answered(self, path: str, took_s: float) -> None:
        """The api-server has answered a try, whatever the answer."""
        self._api_seconds.labels(_class_of(path)).observe(took_s)

    def on_limit(self, limit: MemoryLimit) -> None:
        """A body was refused."""
        self._limited.labels(limit).inc()

    async def measure_lag(self) -> None:
        """Measure how late the event loop is, forever."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self._lag.observe(max(0.0, loop.time() - due))


class KeeperState(Collector):
    """The state of a keeper, read at each scrape. Collect in the event loop.

    Args:
        broker: Its connection.
        view: What it knows of jobs and workers.
        mover: Moves the records of ended jobs.
        checked_s_ago: Seconds since Airflow's database last answered, None before its first answer.
    """

    def __init__(
        self,
        broker: Broker,
        view: "ClusterView",
        mover: RecordMover,
        checked_s_ago: Callable[[], float | None],
    ) -> None:
        self._broker = broker
        self._mover = mover
        self._view = view
        self._checked_s_ago = checked_s_ago
        self._began = time.monotonic()
        self._queues: set[tuple[str, str]] = set()

    @override
    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        yield from self._connection()
        yield from self._views()
        yield from self._jobs()

    def describe(self) -> Iterator[Metric]:
        """Names, types and labels."""
        yield from self.collect()

    def _connection(self) -> Iterator[Metric]:
        yield _gauge("edge_keeper_broker_connected", "1 while NATS is connected", self._broker.connected)
        reconnects = CounterMetricFamily("edge_keeper_broker_reconnects", "Times the connection to NATS was restored")
        reconnects.add_metric((), self._broker.reconnects)
        labels = ("version", "airflow_version")
        build = GaugeMetricFamily("edge_keeper_build_info", "Always 1", labels=labels)
        build.add_metric((VERSION, version("apache-airflow-core")), 1)
        yield from (reconnects, build)

    def _views(self) -> Iterator[Metric]:
        view, checked = self._view, self._checked_s_ago()
        yield _gauge("edge_keeper_view_complete", "1 once jobs and workers were listed", view.complete)
        yield _gauge(
            "edge_keeper_contact_possible",
            "1 while NATS and any relay show signs of life; otherwise no silence is counted and no job is given up",
            view.contact_possible,
        )
        differences = GaugeMetricFamily(
            "edge_keeper_relay_clock_skew_seconds",
            "The clock of a relay minus the keeper's. It does not matter for silence; relays that differ by more than "
            "30 s refuse each other's grants",
            labels=("relay",),
        )
        for relay, difference_s in sorted(view.clock_differences_s.items()):
            differences.add_metric((relay,), difference_s)
        yield differences
        yield _gauge(
            "edge_keeper_ended_records",
            "Records of ended jobs that are not moved to the bucket of ended jobs yet; a job's is after about a minute",
            len(self._mover),
        )
        yield _gauge(
            "edge_keeper_database_check_age_seconds",
            "Since Airflow's database last answered, or since the start if it never did",
            time.monotonic() - self._began if checked is None else checked,
        )

    def _jobs(self) -> Iterator[Metric]:
        """By queue; a queue that once had jobs is exported with 0 from then on."""
        of = Tally((record.team or "", record.queue, _stage(record)) for record in self._view.unfinished())
        self._queues.update((team, queue) for team, queue, _ in of)
        for stage, text in (
            ("running", "Jobs that run at a worker"),
            ("stopping", "Jobs that are to stop and have not stopped yet"),
            ("dead", "Jobs that were parked after too many releases and wait for an operator"),
        ):
            jobs = GaugeMetricFamily(f"edge_queue_{stage}_jobs", text, labels=("team", "queue"))
            for team, queue in sorted(self._queues):
                jobs.add_metric((team, queue), of[team, queue, stage])
            yield jobs


def _stage(record: JobRecord) -> str:
    """The state, or "dead" for a job that waits for an operator."""
    return "dead" if record.state is JobState.WAITING and record.parked is not None else record.state.value


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)
