"""A known mix of everything through two replicas; then each series of both is compared with what happened."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from edge_broker.bucket import Bucket
from edge_broker.layout import ensure_consumer, stream_configs
from edge_broker.subjects import RECORDS_BUCKET
from edge_relay.jobs import release
from edge_relay.limits.kinds import Limit
from edge_relay.metrics import process, shared
from edge_relay.metrics.bundles import PIECE_SOURCES
from edge_relay.upkeep.figures import STEPS
from edge_schemas.life import agents
from edge_schemas.life.events import AnswerWrite
from edge_schemas.life.model import JobState, WriteAnswer
from edge_schemas.wire import routes
from edge_schemas.wire.ids import encode_name
from edge_schemas.wire.jobs import Job, JobKind
from edge_schemas.wire.offline import OfflinePolicy
from edge_schemas.wire.workers import EnrollTokenRequest, SecretKind, WorkerState, new_secret
from support.nats.server import eventually
from support.relay.agents import Agent, publish, pulling
from support.relay.edge import Reply, Worker, running_edge
from support.relay.fake_gate import KEY, FakeGate, running_gate
from support.relay.jobs import make_job
from support.system.observed.metrics import Ledger, ObservedEdge, Series, parse, series

ALPHA, BETA, GAMMA = ("", "alpha_1 é"), ("blue team", "beta"), ("", "gamma")
TOLERANCE_S = 777.0
VERSIONS = {"agent": "0.1.0", "python": "3.11.7", "airflow": "3.3.0rc1", "platform": "x"}
HEALTH = {
    "cpu_busy_ratio": 0.25,
    "load_1m": 1.5,
    "memory_used_bytes": 1_000_000,
    "memory_total_bytes": 4_000_000,
    "disk_free_bytes": 5_000_000_000,
    "disk_total_bytes": 9_000_000_000,
    "link_cuts": 3,
    "held_calls": 2,
    "log_lag_bytes": 12_345,
    "clock_skew_s": -7.5,
    "proxy": "https",
}
_OF_HEALTH = {
    "cpu_busy_ratio": "edge_worker_cpu_busy_ratio",
    "load_1m": "edge_worker_load1",
    "memory_used_bytes": "edge_worker_memory_used_bytes",
    "memory_total_bytes": "edge_worker_memory_total_bytes",
    "disk_free_bytes": "edge_worker_disk_free_bytes",
    "disk_total_bytes": "edge_worker_disk_total_bytes",
    "link_cuts": "edge_worker_link_cuts_total",
    "held_calls": "edge_worker_held_calls",
    "log_lag_bytes": "edge_worker_log_lag_bytes",
    "clock_skew_s": "edge_worker_clock_skew_seconds",
}


def labels(queue: tuple[str, str]) -> dict[str, str]:
    return {"team": queue[0], "queue": queue[1]}


@dataclass(frozen=True)
class Granted:
    """A job in a worker's hands, and when what happened, by the test's clock."""

    grant: dict[str, Any]
    queue: tuple[str, str]
    polled_at: float
    granted_at: float

    @property
    def job(self) -> str:
        return str(self.grant["job"]["id"])


class Story:
    """Does things to two replicas, and writes into their ledgers what they must say afterwards."""

    def __init__(self, edge: ObservedEdge, gate: FakeGate) -> None:
        self.edge = edge
        self.gate = gate
        self.ledgers = edge.ledgers
        self.published: dict[str, tuple[float, float]] = {}
        self.deliveries: dict[str, int] = {}
        self.states: dict[str, WorkerState] = {}

    async def enroll(self, queue: tuple[str, str], *, site: str, replica: int = 0) -> Agent:
        """A new worker of a queue and its team."""
        request = EnrollTokenRequest(queues=(queue[1],), site=site, team=queue[0] or None, uses=1, ttl_s=60)
        token = (await self.edge.enrollments.create_token(request, now=datetime.now(UTC))).token
        secret = new_secret(SecretKind.WORKER)
        reply = await self.edge.enroll(token, secret, replica=replica)
        assert reply.status == 200, reply.body
        self.ledgers[replica].count("edge_relay_enrollments_total", outcome="new")
        assert (await self.edge.enroll(token, secret, replica=1)).status == 200
        self.ledgers[1].count("edge_relay_enrollments_total", outcome="repeated")
        assert (await self.edge.enroll(token, new_secret(SecretKind.WORKER))).code == "enrollment_refused"
        self.ledgers[0].count("edge_relay_enrollments_total", outcome="refused")
        return Agent(self.edge, Worker(reply.json["worker"], secret), replica=replica)

    async def publish(self, queue: tuple[str, str], *, tolerance_s: float = TOLERANCE_S) -> Job:
        before = time.monotonic()
        job = make_job(queue[1], team=queue[0] or None)
        job = job.model_copy(update={"offline": OfflinePolicy(tolerance_s=tolerance_s)})
        await publish(self.edge.broker, job)
        self.published[job.id] = before, time.monotonic()
        return job

    def delivered(self, job: str, queue: tuple[str, str], replica: int) -> None:
        """A message came to a replica; not for the first time, perhaps."""
        self.deliveries[job] = self.deliveries.get(job, 0) + 1
        if self.deliveries[job] > 1:
            self.ledgers[replica].count("edge_relay_redeliveries_total", **labels(queue))

    async def take(self, agent: Agent, queue: tuple[str, str], replica: int = 0) -> Granted:
        """A poll that is granted one job."""
        ledger, began = self.ledgers[replica], time.monotonic()
        reply = await agent.poll(replica=replica)
        now = time.monotonic()
        [grant] = reply.json["grants"]
        job = grant["job"]["id"]
        self.delivered(job, queue, replica)
        before, after = self.published[job]
        ledger.count("edge_relay_grants_total", **labels(queue))
        ledger.took("edge_relay_queue_wait_seconds", began - after, now - before, **labels(queue))
        ledger.took("edge_relay_hand_out_seconds", 0, now - began)
        return Granted(grant, queue, began, now)

    async def start(self, agent: Agent, granted: Granted, replica: int = 0, *, repeats: Sequence[int] = ()) -> float:
        """The start of a job, and repeats of it; returns when it was asked for."""
        began = time.monotonic()
        assert (await agent.start(granted.grant, replica=replica)).status == 204
        ledger, now = self.ledgers[replica], time.monotonic()
        ledger.count("edge_relay_starts_total", **labels(granted.queue))
        # Between replicas' wall clocks, told in milliseconds.
        bounds = began - granted.granted_at - 0.002, now - granted.polled_at + 0.002
        ledger.took("edge_relay_start_confirm_seconds", *bounds)
        for again in repeats:
            assert (await agent.start(granted.grant, replica=again)).status == 204
        return began

    async def finish(
        self,
        agent: Agent,
        granted: Granted,
        verdict: str,
        *,
        started: float,
        replica: int = 0,
        repeats: Sequence[int] = (),
    ) -> None:
        began = time.monotonic()
        assert (await agent.finish(granted.job, replica=replica, exit_code=0)).status == 204
        ledger = self.ledgers[replica]
        ledger.count("edge_relay_finishes_total", **labels(granted.queue), verdict=verdict)
        ledger.took("edge_relay_run_seconds", 0, time.monotonic() - started, **labels(granted.queue))
        for again in repeats:
            assert (await agent.finish(granted.job, replica=again, exit_code=0)).status == 204
        assert began >= started

    async def release(self, agent: Agent, granted: Granted, replica: int = 0, **body: Any) -> None:
        assert (await agent.release(granted.grant, replica=replica, **body)).status == 204
        self.ledgers[replica].count("edge_relay_releases_total", **labels(granted.queue))

    async def call(self, agent: Agent, job: str, path: str, about: str, outcome: str, *, replica: int = 0) -> None:
        """A call of a task to the Execution API."""
        began = time.monotonic()
        whole = routes.JOB_EXECUTION.format(job=job, path=path)
        reply = await self.edge.call("GET", whole, agent.secret, replica=replica)
        assert reply.status == (200 if outcome == "answered" else 503), reply.body
        name = "edge_relay_execution_seconds"
        self.ledgers[replica].took(name, 0, time.monotonic() - began, call=about, outcome=outcome)

    async def report(self, agent: Agent, state: WorkerState, replica: int = 0, **more: Any) -> Reply:
        """A poll that is answered at once, whatever it may be held for: the worker's settings are not the newest."""
        self.states[agent.name] = state
        return await agent.poll(replica=replica, free=0, settings_version=0, versions=VERSIONS, health=HEALTH, **more)


@pytest.fixture
async def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Story]:
    """Two replicas and a gate; what takes seconds in production takes less."""
    monkeypatch.setattr(shared, "REFRESH_EVERY_S", 0.1)
    monkeypatch.setattr(process, "TICK_S", 0.05)
    monkeypatch.setattr(release, "MAX_RELEASE_DELAY_S", 0.01)
    monkeypatch.setattr(agents, "SHORTEST_CONTACT_S", 0.05)
    secret = tmp_path / "gate.secret"
    secret.write_bytes(KEY)
    async with (
        running_gate() as gate,
        running_edge(tmp_path, replicas=2, gate_urls=(gate.url,), gate_key_file=secret) as edge,
    ):
        observed = ObservedEdge(edge.server, edge.relays, edge.ca, edge.broker, edge.access_token)
        observed.ledgers = [Ledger(), Ledger()]
        for queue in (ALPHA, BETA, GAMMA):
            await ensure_consumer(edge.broker, queue[0] or None, queue[1], JobKind.TASK)
        async with observed:
            yield Story(observed, gate)


def without_bundles(ledger: Ledger) -> None:
    """No job of this story ran a bundle."""
    for source in PIECE_SOURCES:
        ledger.count("edge_relay_bundle_pieces_total", 0, source=source)
    ledger.count("edge_relay_bundle_bytes_total", 0)
    ledger.set("edge_relay_bundle_cache_bytes", 0)
    ledger.set("edge_relay_bundle_answers", 0)


def at_rest(ledger: Ledger, certificate: Path) -> None:
    """What is there before anything happens, and what cannot be told in advance."""
    for reason in ("unwanted", "poll_gone", "not_served", "already_held"):
        ledger.count("edge_relay_returns_total", 0, reason=reason)
    for reason in ("missing", "unknown", "revoked", "forbidden"):
        ledger.count("edge_relay_credential_failures_total", 0, reason=reason)
    for outcome in ("new", "repeated", "refused"):
        ledger.count("edge_relay_enrollments_total", 0, outcome=outcome)
    for limit in Limit:
        ledger.count("edge_relay_limited_total", 0, limit=limit.value)
    # No job of this story was submitted.
    for again in ("no", "yes"):
        ledger.count("edge_relay_submitted_messages_total", 0, again=again)
    for reason in ("silence", "missing"):
        ledger.count("edge_relay_give_ups_total", 0, reason=reason)
    for step in STEPS:
        ledger.count("edge_relay_put_aside_total", 0, step=step)
    ledger.set("edge_relay_producer_waits", 0)
    without_bundles(ledger)
    ledger.set("edge_relay_body_bytes", 0)
    ledger.count("edge_relay_malformed_requests_total", 0)
    names = (
        "polls_parked",
        "log_bytes_total",
        "logs_removed_total",
        "bad_messages_total",
        "broker_reconnects_total",
        "expired_receipts_total",
        "expired_jobs_total",
    )
    for name in names:
        ledger.count(f"edge_relay_{name}", 0)
    for queue in (ALPHA, BETA, GAMMA):
        # Workers of each poll at both replicas.
        for name in (
            "grants",
            "starts",
            "releases",
            "signature_refusals",
            "started_releases",
            "parked_jobs",
            "redeliveries",
        ):
            ledger.count(f"edge_relay_{name}_total", 0, **labels(queue))
        for verdict in ("succeeded", "failed", "cancelled"):
            ledger.count("edge_relay_finishes_total", 0, **labels(queue), verdict=verdict)
    ledger.set("edge_relay_broker_connected", 1)
    ends = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc.timestamp()
    ledger.set("edge_relay_tls_certificate_expiry_timestamp_seconds", ends)
    ledger.set("edge_shared_state_age_seconds", lambda age: 0 <= age < 5)
    ledger.set("edge_relay_connections", lambda number: 0 <= number < 20, of="strangers")
    ledger.set("edge_relay_connections", lambda number: 0 <= number < 20, of="workers")
    ledger.set("edge_relay_records_current", 1)
    ledger.set("edge_relay_state_reads_queued", 0)
    ledger.set("edge_relay_state_reads_total", 0, kind="record")
    # A poll may see the notice of the one before it, and reads the entry then.
    ledger.set("edge_relay_state_reads_total", lambda reads: 0 <= reads < 20, kind="entry")


async def finished_in_every_way(story: Story, one: Agent) -> None:
    """Succeeded, failed, cancelled and given back, with repeats of each step at the other replica."""
    edge, left = story.edge, story.ledgers[0]
    await story.publish(ALPHA)
    job = await story.take(one, ALPHA)
    started = await story.start(one, job, repeats=(1, 0))
    data = b"a line of the log\n"
    position = edge.put_log(Job.model_validate(job.grant["job"]), Worker(one.name, one.secret), 0, data)
    assert (await position).status == 200
    left.count("edge_relay_log_bytes_total", len(data))
    await story.call(one, job.job, "xcoms/d/r/t/key", "xcom", "answered")
    await story.call(one, job.job, "variables/a%2Fb", "variable", "answered", replica=1)
    await story.call(one, job.job, "dags/free-text-of-a-task", "other", "answered")
    story.gate.key = b"another key"
    await story.call(one, job.job, "connections/c", "connection", "unavailable", replica=1)
    answer = WriteAnswer(request_id="12345678", status=204, body="")
    await edge.records.change(job.job, AnswerWrite(one.name, answer, "success"))
    await story.finish(one, job, "succeeded", started=started, replica=1, repeats=(0,))

    await story.publish(ALPHA)
    job = await story.take(one, ALPHA)
    started = await story.start(one, job, replica=1)
    await story.finish(one, job, "failed", started=started, repeats=(0, 1))

    await story.publish(ALPHA)
    job = await story.take(one, ALPHA, replica=1)
    started = await story.start(one, job)
    cancelled = await edge.admin(
        "POST", routes.ADMIN_JOB_ACTIONS, {"action": {"do": "cancel"}, "jobs": [job.job], "reason": "test"}
    )
    assert cancelled.status == 200
    await story.finish(one, job, "cancelled", started=started)

    await story.publish(ALPHA)
    job = await story.take(one, ALPHA)
    await story.start(one, job)
    for replica in (0, 1):
        gone = await one.finish(job.job, release=True, receipt=job.grant["receipt"], replica=replica)
        assert gone.status == 204
    left.count("edge_relay_started_releases_total", **labels(ALPHA))


async def taken_over(story: Story, former: Agent) -> Agent:
    """A job of a team, whose agent is started again and takes it up: that is no other start."""
    await story.publish(BETA)
    job = await story.take(former, BETA, replica=1)
    started = await story.start(former, job)
    newer = former.again()
    assert (await newer.poll(replica=1, free=0, settings_version=0)).status == 200
    assert (await newer.start(job.grant, replica=1)).status == 204
    await story.finish(newer, job, "failed", started=started, replica=1)
    return newer


async def given_back_until_parked(story: Story, one: Agent) -> None:
    """One release that does not count, because of a signature, then five that do, the last one repeated."""
    await story.publish(ALPHA)
    job = await story.take(one, ALPHA)
    await story.release(one, job, counted=False, reason="job_not_signed: no key that this worker trusts has signed it")
    story.ledgers[0].count("edge_relay_signature_refusals_total", **labels(ALPHA))
    for number in range(5):
        job = await story.take(one, ALPHA, replica=number % 2)
        await story.release(one, job, replica=(number + 1) % 2)
    story.ledgers[1].count("edge_relay_parked_jobs_total", **labels(ALPHA))
    assert (await one.release(job.grant)).status == 204


async def cut_after_the_grant(story: Story, one: Agent, monkeypatch: pytest.MonkeyPatch) -> Granted:
    """The client goes while its answer is made; the other replica hands the job out again."""
    job = await story.publish(BETA)
    reached = asyncio.Event()

    async def never() -> bytes:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(story.edge.relays[0].parts.identity.receipt_key, "get", never)
        poll = asyncio.create_task(one.poll(replica=0))
        await reached.wait()
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)
        story.edge.called(routes.POLL, 499, 0, 0)
        story.ledgers[0].count("edge_relay_returns_total", reason="poll_gone")
        story.delivered(job.id, BETA, 0)
    return await story.take(one, BETA, replica=1)


async def refused(story: Story, one: Agent, receipt_of_other: str, revoked: Agent) -> None:
    """Each way to be turned away for a credential."""
    edge, [left, right] = story.edge, story.ledgers
    assert (await edge.call("POST", routes.POLL, json={}, replica=1)).status == 401
    right.count("edge_relay_credential_failures_total", reason="missing")
    assert (await edge.call("POST", routes.POLL, new_secret(SecretKind.WORKER), json={})).status == 401
    assert (await edge.call("GET", routes.ADMIN_WORKERS, "nonsense", operators=True)).status == 401
    left.count("edge_relay_credential_failures_total", 2, reason="unknown")
    body = {"receipt": receipt_of_other, "incarnation": 1}
    job = make_job().id
    assert (await edge.call("POST", routes.JOB_START.format(job=job), one.secret, json=body)).code == "forbidden"
    left.count("edge_relay_credential_failures_total", reason="forbidden")
    await edge.act_on_worker(revoked.name, "revoke")
    story.states[revoked.name] = WorkerState.REVOKED
    assert (await revoked.poll(replica=1)).code == "credential_revoked"
    right.count("edge_relay_credential_failures_total", reason="revoked")


def expect_worker(ledger: Ledger, agent: Agent, site: str, team: str, *, reported_at: float, slots: int = 8) -> None:
    """All that is told of a worker that reported `HEALTH`."""
    own = {"worker": agent.name, "site": site}
    info = {"agent_version": "0.1.0", "airflow_version": "3.3.0rc1", "python_version": "3.11.7", "proxy": "https"}
    ledger.set("edge_worker_info", 1, **own, team=team, **info)
    for figure, name in _OF_HEALTH.items():
        # The figures of this table are numbers.
        ledger.set(name, float(HEALTH[figure]), **own)  # type: ignore[arg-type]
    ledger.set("edge_worker_slots", slots, **own)
    ledger.set("edge_worker_free_slots", 0, **own)
    ledger.set("edge_worker_last_contact_timestamp_seconds", lambda at: abs(at - reported_at) < 5, **own)


def expect_jobs(ledger: Ledger, agent: Agent, site: str, *, running: int = 0, finishing: int = 0) -> None:
    for phase, number in (("granted", 0), ("running", running), ("finishing", finishing)):
        ledger.set("edge_worker_jobs", number, worker=agent.name, site=site, phase=phase)


def expect_states(ledger: Ledger, states: dict[str, WorkerState], site_of: dict[str, str]) -> None:
    for site in set(site_of.values()):
        for state in WorkerState:
            number = sum(site_of[name] == site and now is state for name, now in states.items())
            ledger.set("edge_workers", number, site=site, state=state)
    for name, state in states.items():
        if state is not WorkerState.REVOKED:
            ledger.set("edge_worker_state", 1, worker=name, site=site_of[name], state=state)


def expect_queue(
    ledger: Ledger, queue: tuple[str, str], *, waiting: int, granted: int, pulls: int, since: float | None
) -> None:
    """A queue; `since` is when its oldest job was published."""
    own = labels(queue)
    ledger.set("edge_queue_waiting_jobs", waiting, **own)
    ledger.set("edge_queue_granted_jobs", granted, **own)
    ledger.set("edge_queue_polls_waiting", pulls, **own)
    if since is None:
        ledger.set("edge_queue_oldest_job_age_seconds", 0, **own)
        return
    age = time.monotonic() - since
    ledger.set("edge_queue_oldest_job_age_seconds", lambda told: age - 2 <= told <= age + 10, **own)
    ledger.set("edge_queue_tolerance_seconds", TOLERANCE_S, **own)


async def expect_streams(ledger: Ledger, edge: ObservedEdge) -> None:
    """As the server tells somebody else."""
    for config in stream_configs():
        info = await edge.broker.api(f"STREAM.INFO.{config['name']}")
        ledger.set("edge_broker_stream_bytes", info["state"]["bytes"], stream=config["name"])
        ledger.set("edge_broker_stream_messages", info["state"]["messages"], stream=config["name"])
        ledger.set("edge_broker_stream_max_bytes", config.get("max_bytes"), stream=config["name"])
    account = await edge.broker.api("INFO")
    ledger.set("edge_broker_store_bytes", account["storage"])
    limit = account["limits"]["max_storage"]
    ledger.set("edge_broker_store_max_bytes", limit if limit > 0 else None)
    records = [await edge.records.get(job) for job in await Bucket(edge.broker, RECORDS_BUCKET).keys("*")]
    unfinished = [one for one in records if one is not None and one.state is not JobState.ENDED]
    ledger.set("edge_relay_watched_jobs", len(unfinished))


def own_series(found: dict[Series, float]) -> dict[Series, float]:
    """Without those of the process and its interpreter, which are checked here: they depend on the machine."""
    ours = {}
    for (name, of), value in found.items():
        if name == "python_info":
            assert value == 1
        elif name.startswith(("process_", "python_gc_")):
            assert value >= 0, name
        elif name.startswith("edge_relay_event_loop_lag_seconds"):
            assert name.endswith("_sum") or (value > 0) or "bucket" in name
        else:
            ours[name, of] = value
    assert ("process_cpu_seconds_total", frozenset()) in found
    assert found["process_resident_memory_bytes", frozenset()] > 10 << 20
    return ours


async def agree(story: Story, seconds: float = 5.0) -> list[dict[Series, float]]:
    """Wait until both replicas say what they must; the last difference is what fails."""
    deadline = time.monotonic() + seconds
    while True:
        scrapes, wrong = [], []
        for number, ledger in enumerate(story.ledgers):
            await expect_streams(ledger, story.edge)
            scrapes.append(own_series(parse(await story.edge.scrape(number))))
            wrong += [f"replica {number}: {text}" for text in ledger.differences(scrapes[number])]
            story.edge.called(routes.METRICS, 200, 1.0, number)
        if not wrong:
            return scrapes
        assert time.monotonic() < deadline, "\n".join(wrong)
        await asyncio.sleep(0.05)


@asynccontextmanager
async def parked_poll(agent: Agent, queue: tuple[str, str], replica: int) -> AsyncIterator[None]:
    """A poll that waits for jobs meanwhile."""
    poll = asyncio.create_task(agent.poll(replica=replica, versions=VERSIONS, health=HEALTH, poll_timeout_s=50))
    try:
        await pulling(agent.edge, queue[1])
        yield
    finally:
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)


async def test_every_series_of_two_replicas(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counters, gauges and histograms, of what each replica did and of what both see; none is left out."""
    edge = story.edge
    for ledger in story.ledgers:
        at_rest(ledger, edge.ca.with_name("relay.pem"))
        server = ".".join(map(str, edge.broker.server_version))
        build = {"version": version("edge-relay"), "protocol": "1", "nats_server": server}
        ledger.set("edge_relay_build_info", 1, **build)
    one = await story.enroll(ALPHA, site="plant")
    two = await story.enroll(BETA, site="depot", replica=1)
    three = await story.enroll(GAMMA, site="depot")
    never_seen, revoked, draining, silent, copied = [await story.enroll(GAMMA, site="plant") for _ in range(5)]
    site_of = {agent.name: "plant" for agent in (one, never_seen, revoked, draining, silent, copied)}
    site_of |= {agent.name: "depot" for agent in (two, three)}
    story.states[never_seen.name] = WorkerState.NEVER_SEEN

    await finished_in_every_way(story, one)
    await given_back_until_parked(story, one)
    two = await taken_over(story, two)
    held = await cut_after_the_grant(story, two, monkeypatch)
    await refused(story, one, held.grant["receipt"], revoked)

    await story.report(silent, WorkerState.OFFLINE, poll_timeout_s=0)
    await story.report(draining, WorkerState.DRAINING, draining=True)
    await story.report(copied, WorkerState.CONFLICT)
    copy = copied.again(instance="copy", incarnation=1)
    await story.report(copy, WorkerState.CONFLICT, replica=1)
    running = [{"id": make_job().id, "phase": phase} for phase in ("running", "finishing", "finishing")]
    await story.report(one, WorkerState.ONLINE, jobs=running)
    await story.report(two, WorkerState.ONLINE, replica=1)
    since = {queue: story.published[(await story.publish(queue)).id][0] for queue in (ALPHA, BETA)}
    await story.publish(ALPHA, tolerance_s=20)

    story.states[three.name] = WorkerState.ONLINE
    async with parked_poll(three, GAMMA, replica=1):
        await edge.broker.store(f"edge.jobs.-.gamma.{make_job().id}", b"no job")
        story.ledgers[1].count("edge_relay_bad_messages_total")
        story.ledgers[1].set("edge_relay_polls_parked", 1)
        for ledger in story.ledgers:
            reported_at = time.time()
            for agent, team in ((one, ""), (two, "blue team"), (draining, ""), (silent, ""), (copied, "")):
                expect_worker(ledger, agent, site_of[agent.name], team, reported_at=reported_at)
                expect_jobs(ledger, agent, site_of[agent.name])
            expect_jobs(ledger, one, "plant", running=1, finishing=2)
            expect_worker(ledger, three, "depot", "", reported_at=reported_at)
            expect_jobs(ledger, three, "depot")
            ledger.set("edge_worker_free_slots", 1, worker=three.name, site="depot")
            expect_states(ledger, story.states, site_of)
            expect_queue(ledger, ALPHA, waiting=2, granted=0, pulls=0, since=since[ALPHA])
            # The granted one is the oldest: nobody has started it.
            expect_queue(ledger, BETA, waiting=1, granted=1, pulls=0, since=story.published[held.job][0])
            expect_queue(ledger, GAMMA, waiting=0, granted=0, pulls=1, since=None)
        await agree(story)
        before = await agree(story)  # a scrape counts, too: from the second one on
        assert not any(encode_name(ALPHA[1]) in value for _, of in before[0] for _, value in of), (
            "queues by their names"
        )

        # Thirty jobs later there is not one series more.
        since_then = 0.0
        for _ in range(30):
            since_then = story.published[(await story.publish(ALPHA)).id][0]
            job = await story.take(one, ALPHA)
            await story.finish(one, job, "failed", started=await story.start(one, job))
        await story.report(one, WorkerState.ONLINE, jobs=running)
        for ledger in story.ledgers:
            expect_queue(ledger, ALPHA, waiting=2, granted=0, pulls=0, since=since_then)
        after = await agree(story)
        assert [set(found) for found in after] == [set(found) for found in before]


async def test_the_last_figures_stay_while_nats_is_away(story: Story) -> None:
    """Their age tells; no worker is offline because of it, and what comes back is counted."""
    edge = story.edge
    one = await story.enroll(ALPHA, site="plant")
    await story.publish(ALPHA)
    await story.report(one, WorkerState.ONLINE, poll_timeout_s=20)
    waiting, age = series("edge_queue_waiting_jobs", **labels(ALPHA)), series("edge_shared_state_age_seconds")
    online = series("edge_workers", site="plant", state="online")

    async def look(replica: int) -> dict[Series, float]:
        return parse(await edge.scrape(replica))

    async def seen(replica: int) -> bool:
        found = await look(replica)
        return (found.get(waiting), found.get(online)) == (1, 1)

    for replica in (0, 1):
        await eventually(partial(seen, replica), what="the queue and the worker")
    await edge.server.stop(kill=True)
    connected, reconnects = series("edge_relay_broker_connected"), series("edge_relay_broker_reconnects_total")

    async def aged() -> bool:
        return (await look(0))[age] > 0.7

    await eventually(aged, what="the age of the figures grows")
    for replica in (0, 1):
        found = await look(replica)
        assert (found[waiting], found[online], found[connected], found[reconnects]) == (1, 1, 0, 0)
    await edge.server.start()

    async def fresh() -> bool:
        return (await look(0))[age] < 0.5

    await eventually(fresh, what="another look", timeout_s=20)
    found = await look(0)
    assert (found[waiting], found[connected], found[reconnects]) == (1, 1, 1)


async def test_a_worker_is_offline_after_its_own_silence_only(story: Story) -> None:
    """Of three contacts, by the hold of its own last poll."""
    one = await story.enroll(ALPHA, site="plant")
    began = time.monotonic()
    await story.report(one, WorkerState.ONLINE, poll_timeout_s=0.2)
    own = {"worker": one.name, "site": "plant"}

    async def offline() -> bool:
        return series("edge_worker_state", **own, state="offline") in parse(await story.edge.scrape(1))

    await eventually(offline, what="the worker is offline")
    assert time.monotonic() - began > 3 * 0.2
