"""Traces of jobs: what a collector gets to see of a job's way, and that nothing suffers without one."""

import asyncio
import secrets
import select
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog

from edge_bridge.executor.metrics import ExecutorMetrics
from edge_bridge.executor.publisher import Publisher
from edge_bridge.tracing import CentreJobSpans
from edge_broker.bundles.mirror import BundleMirror
from edge_broker.records import RecordStore
from edge_schemas.life.events import AnswerWrite, GiveUp, Start
from edge_schemas.life.model import UserCode, WriteAnswer, new_record
from edge_schemas.life.transition import transition
from edge_schemas.wire.jobs import Job
from edge_service.tracing import CLOSE_S, ENDPOINTS, Spans, spans_from_environment
from edge_upkeep.order.demand import Demand
from edge_upkeep.order.queue_order import QueueOrder
from edge_upkeep.order.rank import rank
from support.nats.server import eventually
from support.relay.agents import Agent, agent
from support.relay.edge import Edge, running_edge
from support.relay.jobs import make_job
from support.system.observed.collector import Collector, running_collector

ENDPOINT = ENDPOINTS[1]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans are sent soon; and nothing of the machine's own settings is in the way."""
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    # Airflow's decision counts, not this one.
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with running_collector() as running:
        monkeypatch.setenv(ENDPOINT, running.url)
        yield running


def traced(*, flags: str = "01") -> Job:
    """A job with a trace context as Airflow gives one."""
    return make_job().model_copy(update={"traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-{flags}"})


def ids(job: Job) -> tuple[str, str]:
    """Trace and parent of a job."""
    assert job.traceparent is not None
    return job.traceparent.split("-")[1], job.traceparent.split("-")[2]


@asynccontextmanager
async def publishing(edge: Edge) -> AsyncIterator[Publisher]:
    """The executor's publisher, with spans as the environment says."""
    spans = CentreJobSpans(spans_from_environment("executor"))
    order = QueueOrder(rank, Demand(), lambda *_: 0, lambda *_: 1000)
    publisher = Publisher(
        lambda *_: None,
        lambda _: None,
        order,
        ExecutorMetrics().of(None),
        spans,
        published=BundleMirror(),
        bundle_wait_s=60,
    )
    running = asyncio.create_task(publisher.run(edge.broker, RecordStore(edge.broker)))
    yield publisher
    running.cancel()
    await asyncio.wait({running})
    await asyncio.to_thread(spans.close)


async def pass_through(edge: Edge, worker: Agent, publisher: Publisher, job: Job, state: str | None) -> datetime:
    """Bring a job to its end, each step on another replica; returns when its grant had arrived."""
    publisher.add([job])
    [grant] = await worker.grants(replica=0)
    granted = datetime.now(UTC)
    last = len(edge.relays) - 1
    assert (await worker.start(grant, replica=last)).status == 204
    assert (await worker.start(grant, replica=last)).status == 204  # a repeat is no second start
    if state is not None:
        answer = WriteAnswer(request_id="12345678", status=204, body="")
        await edge.records.change(job.id, AnswerWrite(worker.name, answer, state))
    for _ in range(2):
        assert (await worker.finish(job.id, exit_code=0, replica=0)).status == 204
    return granted


async def test_a_job_leaves_one_trace_over_all_parts(tmp_path: Path, collector: Collector) -> None:
    """Its spans hang side by side below Airflow's and follow each other; what is not sampled leaves nothing."""
    good, failed, unsampled = traced(), traced(), traced(flags="00")
    odd = make_job().model_copy(update={"traceparent": "no trace context"})
    async with running_edge(tmp_path, replicas=2) as edge, publishing(edge) as publisher:
        worker = await agent(edge, site="plant")
        for job in (unsampled, odd, failed):
            await pass_through(edge, worker, publisher, job, None)
        granted = await pass_through(edge, worker, publisher, good, "success")
        trace, parent = ids(good)
        record = await edge.records.get(good.id)
        assert record is not None
        assert record.holder is not None
        assert record.outcome is not None
        await eventually(lambda: len(collector.of(trace)) == 5, what="five spans")
        await eventually(lambda: len(collector.of(ids(failed)[0])) == 5, what="five more")
    assert {span.trace for span in collector.spans} == {trace, ids(failed)[0]}

    spans = collector.of(trace)
    publish, waiting, hand_out = spans["publish"], spans["waiting"], spans["hand-out"]
    run, finish = spans["run"], spans["finish"]
    assert {span.parent for span in spans.values()} == {parent}
    assert publish.start == waiting.start == good.published_at
    assert publish.start <= publish.end <= granted
    # A receipt keeps milliseconds.
    assert good.published_at - timedelta(milliseconds=1) <= waiting.end == hand_out.start <= granted
    assert hand_out.end == run.start == record.holder.started_at
    assert run.end == finish.start == record.outcome.ended_at
    assert hand_out.start <= hand_out.end < run.end <= finish.end <= datetime.now(UTC)

    whose = {"edge.job": good.id, "edge.queue": "default"}
    held = {**whose, "edge.worker": worker.name, "edge.site": "plant"}
    assert publish.attributes == whose
    assert waiting.attributes == hand_out.attributes == held
    assert run.attributes == finish.attributes == {**held, "edge.verdict": "succeeded"}
    failures = [span.name for span in collector.spans if span.failed]
    assert failures == ["run"]
    assert collector.of(ids(failed)[0])["run"].attributes["edge.verdict"] == "failed"
    assert {span.service["service.name"] for span in collector.spans} == {"edge-relay"}
    assert {span.service["edge.component"] for span in collector.spans} == {"relay", "executor"}


async def test_a_run_that_is_given_up_shows(collector: Collector) -> None:
    """No relay will ever be told of its end."""
    job, before_user_code = traced(), traced()
    started = datetime(2026, 1, 1, tzinfo=UTC)
    spans = CentreJobSpans(spans_from_environment("keeper"))
    for one, code in ((job, True), (before_user_code, False)):
        before = transition(new_record(one), Start("w", 1, started))
        if code:
            before = before.model_copy(update={"accepted_state": None, "user_code": _user_code(started)})
        spans.given_up(before, transition(before, GiveUp("silence", datetime.now(UTC))))
    await asyncio.to_thread(spans.close)
    lost, back = collector.of(ids(job)[0])["run"], collector.of(ids(before_user_code)[0])["run"]
    assert (lost.attributes["edge.verdict"], lost.failed, lost.start) == ("lost", True, started)
    assert (back.attributes["edge.verdict"], back.failed) == ("released", False)


async def test_a_collector_that_is_away_harms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection and never answers: jobs pass, what does not fit is dropped, and no end waits for it."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "32")
    async with running_edge(tmp_path) as edge, publishing(edge) as publisher:
        with socket.create_server(("127.0.0.1", 0)) as black_hole:
            monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{black_hole.getsockname()[1]}")
            spans = spans_from_environment("relay")
            edge.relays[0].parts.spans._spans = spans
            worker = await agent(edge)
            began = time.monotonic()
            for _ in range(200):
                _tell(spans, "span", traced())
            await pass_through(edge, worker, publisher, traced(), None)
            assert time.monotonic() - began < 5
            await eventually(lambda: _connected(black_hole), what="spans are being sent")
            began = time.monotonic()
            await asyncio.to_thread(spans.close)
            assert time.monotonic() - began < CLOSE_S + 1


def test_what_is_not_delivered_is_said_once(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    """And again that it is delivered; the exporter's own words about each attempt are not passed on."""
    job = traced()
    collector.refuse = True
    with structlog.testing.capture_logs() as logs:
        spans = spans_from_environment("relay")
        for turn in (1, 2, 3):
            _tell(spans, f"span-{turn}", job)
            # Mypy cannot infer a lambda whose parameter has a default.
            _until(lambda turn=turn: collector.requests >= turn)  # type: ignore[misc]
        collector.refuse = False
        _tell(spans, "late", job)
        _until(lambda: bool(collector.spans))
        spans.close()
    events = [line["event"] for line in logs]
    assert events == ["traces_on", "traces_not_delivered", "traces_delivered_again"]
    assert [record.name for record in caplog.records if record.name.startswith("opentelemetry")] == []
    assert [span.name for span in collector.spans] == ["late"]


def test_without_endpoint_or_packages_nothing_is_imported() -> None:
    """Nor with a protocol that is not spoken here; what to do is said once."""
    code = f"""
import sys, structlog
import edge_relay.app, edge_bridge.tracing
from edge_service.tracing import spans_from_environment

def of_otel():
    return [name for name in sys.modules if name.startswith("opentelemetry.")]

def events(**environment):
    with structlog.testing.capture_logs() as logs:
        spans_from_environment("relay", environment).close()
    return [line["event"] for line in logs]

assert events() == []
assert events({ENDPOINT}="http://127.0.0.1:1", OTEL_EXPORTER_OTLP_PROTOCOL="grpc") == ["traces_off"]
assert not of_otel()
sys.modules["opentelemetry"] = None  # as if it were not installed
assert events({ENDPOINT}="http://127.0.0.1:1") == ["traces_off"]
assert not of_otel()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def _tell(spans: Spans, name: str, job: Job) -> None:
    now = datetime.now(UTC)
    spans.report(name, job, start=now, end=now, attributes={})


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _user_code(at: datetime) -> UserCode:
    return UserCode(hostname="h", pid=1, at=at)


def _connected(server: socket.socket) -> bool:
    return bool(select.select([server], [], [], 0)[0])
