"""The pieces of the metrics: what is exported, when, and how it is written."""

import asyncio
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from structlog.testing import capture_logs

from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import NO_MESSAGE, BrokerUnavailable, JetStreamError
from edge_broker.connection.settings import BrokerSettings
from edge_broker.subjects import ACCESS_BUCKET
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.lookups import Lookups
from edge_relay.limits.kinds import ignore
from edge_relay.metrics import exposition
from edge_relay.metrics import fleet as fleet_module
from edge_relay.metrics.exports import exports
from edge_relay.metrics.exposition import render
from edge_relay.metrics.fleet import Fleet
from edge_relay.metrics.last_poll import LastPoll, last_poll, version_label
from edge_relay.metrics.process import add_certificate
from edge_relay.metrics.queues import QueueReader
from edge_relay.metrics.replica import Metrics
from edge_relay.metrics.shared import SharedState
from edge_relay.pulls.deliveries import Delivery
from edge_schemas.gate.execution_paths import CallClass, call_class, split_path
from edge_schemas.wire.worker_entry import AgentSeen, WorkerEntry
from edge_schemas.wire.worker_report import WorkerHealth, WorkerVersions
from edge_schemas.wire.workers import WorkerAccess, WorkerSettings, WorkerState
from support.relay.jobs import make_job
from support.relay.parts import credentials_of
from support.system.observed.metrics import parse, series


class FakeBroker:
    """Answers calls of JetStream's API by their name, and counts them."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[str] = []
        self.connected = True
        self.reconnects = 0

    def on_connection(self, listener: Any) -> None:
        self.come_back = listener

    async def wait_connected(self) -> None:
        """It always is."""

    async def api(self, call: str, body: dict[str, Any] | None = None) -> Any:
        self.calls.append(call)
        answer = next(answer for name, answer in self.answers.items() if call.startswith(name.replace("_", ".")))
        found = answer(body or {}) if callable(answer) else answer
        if isinstance(found, Exception):
            raise found
        return found


def as_broker(fake: FakeBroker) -> Broker:
    return cast("Broker", fake)


def consumer(name: str, *, filtered: str | None = None, pending: int = 0, granted: int = 0) -> dict[str, Any]:
    config = {"filter_subject": f"edge.jobs.-.{name}.*" if filtered is None else filtered}
    return {"config": config, "num_pending": pending, "num_ack_pending": granted, "num_waiting": 0}


def pages(items: list[Any], limit: int) -> Any:
    return lambda body: {
        "total": len(items),
        "offset": body["offset"],
        "limit": limit,
        "consumers": items[body["offset"] : body["offset"] + limit] or None,
    }


async def test_what_is_written_is_what_the_library_would_write() -> None:
    registry = CollectorRegistry()
    Metrics()  # from here on the library makes no series that say when another one was made
    awkward = Gauge("awkward", 'a "help"\nwith \\ lines', ["label"], registry=registry)
    for value in (0, 1.5, -2, 1e16, 123456789.25, math.inf, -math.inf):
        awkward.labels(f'"{value}"\n\\').set(value)
    Counter("counted", "help", ["a", "b"], registry=registry).labels("1", "").inc(3)
    Histogram("timed", "help", registry=registry, buckets=(0.5, 1)).observe(0.7)
    assert await render(registry) == generate_latest(registry)


async def test_a_long_scrape_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """With thousands of workers polls would wait for it."""
    monkeypatch.setattr(exposition, "LINES_AT_ONCE", 10)
    registry = CollectorRegistry()
    many = Gauge("many", "help", ["n"], registry=registry)
    for number in range(200):
        many.labels(str(number)).set(number)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    text = await render(registry)
    counting.cancel()
    assert turns >= 20
    assert len(parse(text.decode())) == 200


async def test_no_series_tells_when_another_one_was_made() -> None:
    metrics = Metrics()
    metrics.grants.labels("", "q").inc()
    assert b"_created" not in await render(metrics.registry)


@pytest.mark.parametrize(
    ("ack_subject", "number"),
    [
        ("$JS.ACK.EDGE_JOBS.q.3.17.20.1750000000500000000.4", 3),
        ("$JS.ACK._.hash.EDGE_JOBS.q.3.17.20.1750000000500000000.4", 3),
        ("$JS.ACK.hub.hash.EDGE_JOBS.q.3.17.20.1750000000500000000.4.token", 3),
    ],
    ids=["plain", "with account", "with domain, account and token"],
)
def test_what_an_ack_subject_tells(ack_subject: str, number: int) -> None:
    delivery = Delivery(make_job(), ack_subject, datetime.now(UTC))
    assert (delivery.number, delivery.pending) == (number, 4)


@pytest.mark.parametrize(
    ("path", "about"),
    [
        ("task-instances/1/heartbeat", CallClass.HEARTBEAT),
        ("task-instances/1/run", CallClass.RUN),
        ("task-instances/1/state", CallClass.STATE),
        ("task-instances/1/rtif", CallClass.RTIF),
        ("task-instances/1/skip-downstream", CallClass.OTHER),
        ("task-instances/count", CallClass.OTHER),
        ("xcoms/d/r/t/run", CallClass.XCOM),
        ("connections/run", CallClass.CONNECTION),
        ("variables/a%2Fstate", CallClass.VARIABLE),
        ("store/asset/by-name/value", CallClass.ASSET),
        ("store/ti/1/k", CallClass.OTHER),
        ("asset-events/by-asset", CallClass.ASSET),
        ("assets/by-name", CallClass.ASSET),
        ("whatever", CallClass.OTHER),
    ],
)
def test_calls_by_what_they_are_about(path: str, about: CallClass) -> None:
    assert call_class(split_path(path)) is about


@pytest.mark.parametrize("told", ["3.3.0", "3.3.0rc1", "0", "3.3.0.dev0", "", "0.1.0.post2"])
def test_versions_that_look_like_one(told: str) -> None:
    assert version_label(told) == told


@pytest.mark.parametrize("told", ["latest", "3.3.0+my.build", "1.2.3.4.5", "3\n", "1" * 99, "\u0663.\u0661", "1.2 3"])
def test_free_text_is_no_version(told: str) -> None:
    """A worker writes it."""
    assert version_label(told) == "other"


async def test_queues_are_read_page_by_page() -> None:
    consumers = [consumer(f"q{n}", pending=n) for n in range(5)]
    foreign = [consumer("", filtered="edge.jobs.>"), consumer("", filtered="")]
    empty = JetStreamError(NO_MESSAGE, "no message found")
    broker = FakeBroker(
        CONSUMER_LIST=pages(consumers + foreign, 2), STREAM_INFO={"state": {}}, STREAM_MSG=lambda _: empty
    )
    found = await QueueReader(as_broker(broker)).read()
    assert {queue: figures.waiting for queue, figures in found.items()} == {("", f"q{n}"): n for n in range(5)}
    assert broker.calls.count("CONSUMER.LIST.EDGE_JOBS") == 4
    assert broker.calls.count("STREAM.MSG.GET.EDGE_JOBS") == 4, "an empty queue has no oldest job"
    assert {figures.oldest_age_s for figures in found.values()} == {0}, "all were taken meanwhile"


async def test_consumers_without_a_leader_make_no_read() -> None:
    """Half of the queues would seem to be gone."""
    page = {"total": 2, "limit": 256, "consumers": [consumer("q")], "missing": ["other"]}
    broker = FakeBroker(CONSUMER_LIST=page, STREAM_INFO={"state": {}})
    with pytest.raises(BrokerUnavailable):
        await QueueReader(as_broker(broker)).read()


async def test_a_look_that_fails_leaves_the_last_figures_and_their_age_tells() -> None:
    state = {"state": {"bytes": 7, "messages": 1, "first_seq": 1, "last_seq": 1}, "config": {"max_bytes": -1}}
    broker = FakeBroker(
        CONSUMER_LIST=pages([consumer("q")], 256),
        STREAM_INFO=state,
        INFO={"storage": 9, "limits": {"max_storage": -1}},
    )
    now = 100.0
    shared = SharedState(as_broker(broker), (), clock=lambda: now)
    registry = CollectorRegistry()
    registry.register(shared)
    await shared._refresh()
    broker.answers["CONSUMER_LIST"] = BrokerUnavailable("away")
    now = 160.0
    with pytest.raises(BrokerUnavailable):
        await shared._refresh()
    found = parse((await render(registry)).decode())
    assert found[series("edge_shared_state_age_seconds")] == 60
    assert found[series("edge_queue_waiting_jobs", team="", queue="q")] == 0
    assert found[series("edge_broker_store_bytes")] == 9
    assert series("edge_broker_store_max_bytes") not in found, "there is no limit"


async def test_a_look_that_continues_failing_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = FakeBroker(STREAM_INFO=BrokerUnavailable("away"))
    rounds = 0

    class Enough(Exception):
        pass

    async def sleep(_: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            raise Enough

    shared = SharedState(as_broker(broker), ())
    monkeypatch.setattr(asyncio, "sleep", sleep)
    with capture_logs() as logs, pytest.raises(Enough):
        await shared.run()
    assert [line["log_level"] for line in logs if line["log_level"] != "debug"] == ["warning"]


class Everybody:
    """Stands for the credentials."""

    def __init__(self, *workers: WorkerAccess) -> None:
        self._workers = workers

    def workers(self) -> tuple[WorkerAccess, ...]:
        return self._workers

    def settings(self, access: WorkerAccess) -> WorkerSettings:
        return access.settings


def access(worker: str = "w", **more: Any) -> WorkerAccess:
    settings = WorkerSettings(version=1, queues=("q",))
    return WorkerAccess(
        worker=worker, secret_hash="0" * 64, site="s", settings=settings, enrolled_at=datetime.now(UTC), **more
    )


def entry(*, ago_s: float = 0.0, poll_timeout_s: float = 50.0, health: WorkerHealth | None = None) -> bytes:
    agent = AgentSeen(
        instance="i",
        incarnation=1,
        seq=1,
        arrival="a",
        host="h",
        address="a",
        last_poll_at=datetime.now(UTC) - timedelta(seconds=ago_s),
    )
    versions = WorkerVersions(agent="0.1.0", python="3.11", platform="p")
    found = WorkerEntry(
        worker="w",
        site="lies",
        agent=agent,
        relay="r",
        poll_timeout_s=poll_timeout_s,
        slots=2,
        free=1,
        draining=False,
        jobs=(),
        versions=versions,
        health=health or WorkerHealth(),
    )
    return found.model_dump_json(exclude_none=True).encode()


class Clock:
    """Set by the test."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def fleet(clock: Clock, *workers: WorkerAccess) -> tuple[Fleet, FakeBroker]:
    broker = FakeBroker()
    return Fleet(as_broker(broker), cast("Credentials", Everybody(*workers)), clock=clock), broker


def told(collector: Collector) -> Iterator[tuple[str, dict[str, str], float]]:
    return ((s.name, s.labels, s.value) for family in collector.collect() for s in family.samples)


def test_a_worker_is_offline_after_three_missed_contacts() -> None:
    clock = Clock()
    one, _ = fleet(clock, access())
    assert one.state(access()) is WorkerState.NEVER_SEEN
    one.apply("w", entry(poll_timeout_s=50))
    clock.now += 149
    assert one.state(access()) is WorkerState.ONLINE
    clock.now += 2
    assert one.state(access()) is WorkerState.OFFLINE
    one.apply("w", entry(ago_s=200, poll_timeout_s=50))
    assert one.state(access()) is WorkerState.OFFLINE, "a replica that has just begun knows it at once"


def prove(one: Fleet, clock: Clock, for_s: float) -> None:
    """Polls are proven to arrive for so long, each second."""
    for _ in range(round(for_s)):
        clock.now += 1
        one.clock.record_proof(clock.now)


def test_no_worker_is_offline_because_nats_was_away() -> None:
    """No poll could be heard of meanwhile. The clock continues where it stood, and one that was offline stays so."""
    clock = Clock()
    one, _ = fleet(clock, access())
    one.apply("w", entry(poll_timeout_s=50))
    prove(one, clock, 100)
    clock.now += 1000
    assert one.state(access()) is WorkerState.ONLINE
    prove(one, clock, 49)
    assert one.state(access()) is WorkerState.ONLINE
    prove(one, clock, 2)
    assert one.state(access()) is WorkerState.OFFLINE
    clock.now += 1000
    prove(one, clock, 1)
    assert one.state(access()) is WorkerState.OFFLINE


def test_a_poll_that_arrives_with_the_end_of_an_outage_is_not_from_the_future() -> None:
    """It is received before the first proof: the worker must not count as heard for as long as the outage was."""
    clock = Clock()
    one, _ = fleet(clock, access())
    prove(one, clock, 1)
    clock.now += 1000
    one.apply("w", entry(poll_timeout_s=50))
    prove(one, clock, 150)
    assert one.state(access()) is WorkerState.ONLINE
    prove(one, clock, 7)
    assert one.state(access()) is WorkerState.OFFLINE


def test_figures_that_no_machine_has_are_left_out() -> None:
    """A worker writes them; one must not break the scrape of all."""
    one, _ = fleet(Clock(), access())
    one.apply("w", entry(health=WorkerHealth(memory_total_bytes=10**400, link_cuts=10**30, held_calls=4)))
    found = {name: value for name, of, value in told(one) if of.get("worker") == "w"}
    assert found["edge_worker_held_calls"] == 4
    assert not {"edge_worker_memory_total_bytes", "edge_worker_link_cuts_total"} & set(found)


def test_a_revoked_worker_is_counted_and_nothing_else() -> None:
    gone = access("gone", revoked_at=datetime.now(UTC))
    one, _ = fleet(Clock(), gone, access())
    one.apply("gone", entry())
    one.apply("w", b"not an entry")
    found = list(told(one))
    assert not [name for name, of, _ in found if of.get("worker") == "gone"]
    counts = {of["state"]: value for name, of, value in found if name == "edge_workers"}
    assert (counts["revoked"], counts["never seen"], counts["online"]) == (1, 1, 0)
    assert {of["site"] for _, of, _ in found} == {"s"}, "as the credential says"


async def test_only_what_a_scrape_shows_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each replica receives every poll of every worker: most of them are replaced before a scrape needs them."""
    parsed: list[WorkerEntry] = []

    def count(entry: WorkerEntry, received_at: float, received_time: datetime) -> LastPoll:
        parsed.append(entry)
        return last_poll(entry, received_at, received_time)

    monkeypatch.setattr(fleet_module, "last_poll", count)
    workers = [f"w{number}" for number in range(250)]
    one, _ = fleet(Clock(), *map(access, workers))
    for _ in range(20):
        for worker in workers:
            one.apply(worker, entry())
    assert not parsed
    await one.prepare()
    assert len(parsed) == len(workers)
    assert len([name for name, _, _ in told(one) if name == "edge_worker_slots"]) == len(workers)
    one.apply("w1", entry())
    one.apply("w2", None)
    assert len([name for name, _, _ in told(one) if name == "edge_worker_slots"]) == len(workers) - 1
    assert len(parsed) == len(workers) + 1, "what has not changed is not parsed again"


def test_the_end_of_a_certificate_that_cannot_be_read(tmp_path: Path) -> None:
    """The listener decides what can be served."""
    registry = CollectorRegistry()
    (tmp_path / "cert.pem").write_text("nothing")
    for file in (None, tmp_path / "missing.pem", tmp_path / "cert.pem"):
        add_certificate(registry, file)
    assert not list(registry.collect())


def test_every_metric_is_described_before_anything_happens() -> None:
    """The reference page is made from it."""
    broker = Broker(BrokerSettings((), "relay", ""))
    lookups = Lookups(Bucket(broker, ACCESS_BUCKET), per_s=1, per_address_per_s=1, on_limit=ignore)
    registry = exports(Metrics(), broker, credentials_of(broker, lookups), None).metrics.registry
    families: list[Metric] = list(registry.collect())
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation for family in families)
    ours = {family.name for family in families if not family.name.startswith(("process_", "python_"))}
    assert all(
        name.startswith(("edge_relay_", "edge_queue", "edge_worker", "edge_broker_", "edge_shared")) for name in ours
    )
