"""What the executor counts is what happened, for Prometheus and for Airflow's own metrics alike."""

import base64
import socket
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from opentelemetry import trace
from prometheus_client.parser import text_string_to_metric_families

from edge_bridge.executor import metrics_listener, publisher
from edge_broker.bucket import DELETE_MARK
from edge_broker.permissions import EXECUTOR
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.life.events import GiveUp
from edge_schemas.wire.jobs import Job
from support.airflow.airflow_home import dag_run, set_task, task_rows
from support.nats.server import PASSWORDS, eventually
from support.system.observed.metrics import parse, series

Centres = Callable[[], Any]
Figures = dict[tuple[str, ...], float]

SHORT = '{"short": {"queue_timeout": 1}}'


class Statsd:
    """Stands in for the client of Airflow's own metrics; counts by name and tags."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.gauges: dict[str, float] = {}
        self.timings: Counter[str] = Counter()

    def incr(self, stat: str, count: int = 1, rate: float = 1, *, tags: dict[str, Any] | None = None) -> None:
        self.counts[(stat, *(tags or {}).values())] += count

    def gauge(self, stat: str, value: float, rate: float = 1, delta: bool = False, *, tags: Any = None) -> None:
        self.gauges[stat] = value

    def timing(self, stat: str, dt: Any, *, tags: Any = None) -> None:
        assert dt.total_seconds() >= 0
        self.timings[stat] += 1

    def timer(self, *_: Any, **__: Any) -> Any:
        from airflow._shared.observability.metrics.base_stats_logger import NoStatsLogger

        return NoStatsLogger.timer()

    def ours(self) -> Figures:
        """The counters of Edge Relay, by what follows its name."""
        prefix = "edge_relay."
        return {(name.removeprefix(prefix), *tags): n for (name, *tags), n in self.counts.items() if prefix in name}


def exposed() -> str:
    """What Prometheus gets."""
    assert metrics_listener._server is not None
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_listener._server.server_port}/metrics") as answer:
        text: str = answer.read().decode()
        return text


def scraped() -> Figures:
    """The same: values by name without prefix and the labels' values, the team left out."""
    found: Figures = {}
    for family in text_string_to_metric_families(exposed()):
        for sample in family.samples:
            if sample.name.startswith("edge_executor_") and not sample.name.endswith(("_bucket", "_created")):
                labels = [value for name, value in sample.labels.items() if name != "team"]
                found[(sample.name.removeprefix("edge_executor_"), *labels)] = sample.value
    return found


def counters(figures: Figures) -> Figures:
    """The counters among them, named as Airflow has them; those that still are 0 left out."""
    named: Figures = {}
    for (name, *labels), value in figures.items():
        if name.endswith("_total") and value:
            short = name.removesuffix("_total")
            key = (".".join((short, *labels)),) if short in {"reports", "adopted"} else (short, *labels)
            named[key] = value
    return named


def standing() -> tuple[float, ...]:
    """Backlog, open slots, queued, running, connected."""
    names = ("publish_backlog", "open_slots", "queued_jobs", "running_jobs", "broker_connected")
    figures = scraped()
    return tuple(figures[name,] for name in names)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Statsd:
    """Executors made from here on count from 0, and serve it."""
    from airflow._shared.observability.metrics import stats

    from edge_bridge.executor.metrics import process_metrics

    process_metrics.cache_clear()
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__METRICS_PORT", "0")
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__QUEUES", SHORT)
    monkeypatch.setattr(publisher, "CONNECT_WAIT_S", 0.3)
    statsd = Statsd()
    # Each executor begins them again.
    monkeypatch.setattr(stats, "_get_backend", lambda: statsd)
    return statsd


async def test_every_figure_is_what_happened(counting: Statsd, centres: Centres, edge: Any, server: NatsServer) -> None:
    """One of each: ended well, failed, given up, withdrawn, parked, waiting, expired, refused, late, adopted."""
    centre = centres()
    with ExitStack() as stack:
        dag = stack.enter_context(dag_run(6))
        jobs = centre.dispatch(dag)
        records = {task: await edge.appears(job) for task, job in jobs.items()}
        await eventually(lambda: standing() == (0, 9_994, 6, 0, 1))

        for task in ("t0", "t1", "t2"):
            await edge.start(jobs[task])
            set_task(dag.dag_id, task, state="running")
        await eventually(lambda: standing() == (0, 9_994, 3, 3, 1))
        set_task(dag.dag_id, "t3", state="failed")
        centre.compare()  # t3 is found to be unwanted
        await edge.accept(jobs["t0"], "success")
        set_task(dag.dag_id, "t0", state="success")
        await edge.finish(jobs["t0"])
        await edge.finish(jobs["t1"], "killed by the kernel")
        await edge.do(jobs["t2"], GiveUp("no contact", datetime.now(UTC)))
        await eventually(lambda: edge.message(records["t2"]), what="a message again")
        set_task(dag.dag_id, "t2", state="queued")
        await edge.park(jobs["t4"])
        await centre.beats_until(lambda: centre.executor._task_event_logs, "the note about t4")
        await centre.beats_until(lambda: len(centre.executor.running) == 3 and states(dag)["t1"] == "failed")

        short = stack.enter_context(dag_run(1, queue="short"))
        await edge.appears(centre.dispatch(short)["t0"])
        await centre.beats_until(lambda: states(short)["t0"] == "failed", "it has waited for too long")
        nameless = stack.enter_context(dag_run(1))
        refuse(centre, nameless)
        await centre.beats_until(lambda: states(nameless)["t0"] == "failed")
        centre.compare()  # all that was told has arrived: five dispatches are forgotten
        centre.scheduler.beat()

        await server.stop(kill=True)
        late = stack.enter_context(dag_run(3))
        late_jobs = centre.dispatch(late)
        await eventually(lambda: standing() == (3, 9_994, 6, 0, 0))
        await eventually(lambda: scraped().get(("publish_failures_total",), 0) >= 3)
        centre.scheduler.beat()
        assert counting.gauges["edge_relay.publish_backlog"] == 3
        assert counting.gauges["edge_relay.broker_connected"] == 0
        await server.start()
        for job in late_jobs.values():
            await edge.appears(job)
        await eventually(lambda: standing() == (0, 9_994, 6, 0, 1))

        figures = counters(scraped())
        centre.executor.terminate()
        centre.scheduler.die()
        lost = await edge.record(late_jobs["t2"])
        await edge.drop_message(lost)
        await edge.broker.request(f"$KV.edge_jobs.{lost.id}", headers=DELETE_MARK)
        second = centres()
        assert second.scheduler.adopt() == 1
        after = counters(scraped())

    failures = figures.pop(("publish_failures",))
    assert figures == {
        ("published", "default"): 9,
        ("published", "short"): 1,
        ("republished",): 1,
        ("withdrawn",): 1,
        ("expired",): 1,
        ("refused",): 1,
        ("reports.succeed",): 1,
        ("reports.fail",): 4,
        ("reports.note",): 1,
        ("reports.forget",): 5,
    }
    assert after == {**figures, ("publish_failures",): failures, ("adopted.known",): 5, ("adopted.returned",): 1}
    assert counting.ours() == after
    assert counting.timings["edge_relay.publish_duration"] == 10


async def test_one_listener_serves_all_executors_and_a_taken_port_stops_none(
    counting: Statsd, centres: Centres, edge: Any, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one here is a team's: its own settings name no port, and its series have its name."""
    from edge_bridge.executor.relay_executor import RelayExecutor

    monkeypatch.setenv("AIRFLOW__BLUE___EDGE_RELAY__NATS_URLS", server.url)
    monkeypatch.setenv("AIRFLOW__BLUE___EDGE_RELAY__EXECUTOR_PASSWORD", PASSWORDS[EXECUTOR])
    first, of_team = centres().executor, RelayExecutor(team_name="blue")
    of_team.start()
    assert (first._listens, of_team._listens) == (True, False)
    connected = [series("edge_executor_broker_connected", team=team) for team in ("", "blue")]
    await eventually(lambda: [parse(exposed())[key] for key in connected] == [1, 1])
    for executor in (of_team, first):
        executor.end()
    assert metrics_listener._server is None
    with socket.create_server(("127.0.0.1", 0)) as taken, structlog.testing.capture_logs() as logs:
        monkeypatch.setenv("AIRFLOW__EDGE_RELAY__METRICS_PORT", str(taken.getsockname()[1]))
        third = centres()
        [line] = [line for line in logs if line["event"] == "metrics_not_served"]
        assert (line["log_level"], "metrics_port" in line["hint"]) == ("error", True)
        with dag_run(1) as dag:
            await edge.appears(third.dispatch(dag)["t0"])


async def test_a_job_carries_airflows_trace_context(centres: Centres, edge: Any) -> None:
    """That of the workload: below it hang the spans of the job's way and, made by the Task SDK, those of the task."""
    from airflow.sdk.execution_time import task_runner

    centre = centres()
    with dag_run(1) as dag:
        record = await edge.appears(centre.dispatch(dag)["t0"])
        job = Job.model_validate_json(base64.b64decode((await edge.message(record))["data"]))
    carrier = job.workload["ti"]["context_carrier"]
    assert job.traceparent is not None
    propagator = vars(task_runner)["TraceContextTextMapPropagator"]()
    contexts = [
        trace.get_current_span(propagator.extract(one)).get_span_context()
        for one in (carrier, {"traceparent": job.traceparent})
    ]
    assert contexts[0].is_valid
    assert (contexts[0].trace_id, contexts[0].span_id) == (contexts[1].trace_id, contexts[1].span_id)


def refuse(centre: Any, dag: Any) -> None:
    """Hand out a task that has no dispatch id, as one that names its executor by class name."""
    while centre.scheduler.queue():
        pass
    for workload in centre.executor.queued_tasks.values():
        workload.ti.external_executor_id = None
    set_task(dag.dag_id, "t0", external_executor_id=None)
    centre.scheduler.beat()


def states(dag: Any) -> dict[str, str | None]:
    """The tasks' states."""
    return {task: row.state for task, row in task_rows(dag.dag_id).items()}
