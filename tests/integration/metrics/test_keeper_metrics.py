"""A known mix of calls, ends and outages through a real keeper; then each of its series is compared with it."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiohttp
import pytest
from aiohttp import web
from typing_extensions import override

from edge_bridge.keeper import service
from edge_bridge.keeper.settings import KeeperSettings
from edge_bridge.keeper.task_heartbeats import HeartbeatSettings
from edge_bridge.keeper.tokens import TokenMint
from edge_bridge.provider_info import VERSION
from edge_broker.permissions import EXECUTOR, KEEPER, RELAY
from edge_broker.records import RecordStore
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.gate.execution_paths import call_class
from edge_schemas.life.events import Release, ReportUserCode, Start
from edge_schemas.life.model import JobState, new_record
from edge_schemas.life.transition import RELEASES_BEFORE_PARKED
from edge_schemas.wire.jobs import Job, TaskWork
from edge_schemas.wire.offline import OfflinePolicy
from edge_schemas.wire.worker_entry import CLOCK_STEP_S
from support.airflow.fake_airflow import (
    DAG_ID,
    RUN_ID,
    FakeAirflow,
    FakeDispatches,
    FakeTask,
    PlainSigner,
    running_fake_airflow,
)
from support.airflow.keeper import KEY, WORKER, FakeRelay, beating, poll, run_body
from support.nats.server import broker_settings, connected, eventually, running_server
from support.system.observed.metrics import Series, parse, series

HEARTBEAT_TIMEOUT = timedelta(seconds=1.5)
LATER = datetime.now(UTC) + timedelta(days=1)


class CountingAirflow(FakeAirflow):
    """Knows how often it was asked what; can fail.

    Attributes:
        answers: Number of answers by class of call and status.
        refused: Task instances whose heartbeats are answered with this status.
        failures: So many calls of a connection fail next.
    """

    def __init__(self) -> None:
        super().__init__()
        self.answers: Counter[tuple[str, int]] = Counter()
        self.refused: dict[str, int] = {}
        self.failures = 0

    @override
    async def handle(self, request: web.Request) -> web.Response:
        call = call_class(request.match_info["path"].split("/"))
        ti_id = request.headers["Authorization"].rpartition(" ")[2]
        if call == "heartbeat" and ti_id in self.refused:
            reply = web.json_response({"detail": "no"}, status=self.refused[ti_id])
        elif call == "connection" and self.failures:
            self.failures -= 1
            reply = web.json_response({"detail": "no"}, status=503)
        else:
            reply = await super().handle(request)
        self.answers[str(call), reply.status] += 1
        return reply

    def asked(self, call: str) -> int:
        """How often in this class."""
        return sum(number for (asked, _), number in self.answers.items() if asked == call)


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with running_server(tmp_path / "nats") as running:
        yield running


@pytest.fixture
async def fake() -> AsyncIterator[CountingAirflow]:
    with patch("support.airflow.fake_airflow.FakeAirflow", CountingAirflow):
        async with running_fake_airflow() as running:
            assert isinstance(running, CountingAirflow)
            yield running


@asynccontextmanager
async def running_keeper(nats: NatsServer, fake: FakeAirflow) -> AsyncIterator[service.Keeper]:
    """The real keeper, but for its look into Airflow's database and the key it signs with."""
    settings = KeeperSettings(
        broker=broker_settings(nats, KEEPER),
        gate_host="127.0.0.1",
        gate_port=0,
        gate_secret=KEY,
        execution_api_url=f"{fake.url}/execution/",
        heartbeats=HeartbeatSettings(HEARTBEAT_TIMEOUT),
    )
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        stack.enter_context(patch.object(service, "Dispatches", partial(FakeDispatches, fake)))
        keeper = await stack.enter_async_context(service.running_parts(settings, TokenMint(PlainSigner())))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        group.create_task(keeper.run(stop))
        stack.callback(stop.set)
        await eventually(lambda: keeper.health()["ok"], what="a keeper that is well")
        yield keeper


class Jobs:
    """Publishes and starts the jobs of a mix, and knows their tasks."""

    def __init__(self, records: RecordStore, fake: CountingAirflow) -> None:
        self._records = records
        self._fake = fake

    async def waiting(self, name: str, *, queue: str = "edge", team: str | None = None) -> FakeTask:
        task = self._fake.add(name, {})
        task.last_heartbeat_at = datetime.now(UTC)
        work = TaskWork(task=task.identity, workload={}, core_executor="")
        offline, now = OfflinePolicy(tolerance_s=60), datetime.now(UTC)
        job = Job(id=task.dispatch, queue=queue, team=team, work=work, offline=offline, published_at=now)
        await self._records.create(new_record(job))
        return task

    async def parked(self, name: str) -> None:
        """Given back so often that it waits for an operator."""
        task = await self.waiting(name)
        for grant in range(RELEASES_BEFORE_PARKED):
            release = Release(WORKER, "no runtime", counted=True, at=datetime.now(UTC), grant=f"grant-{grant}")
            await self._records.change(task.dispatch, release)

    async def started(self, name: str, worker: str = WORKER, **more: Any) -> FakeTask:
        task = await self.waiting(name, **more)
        await self._records.change(task.dispatch, Start(worker, 1, datetime.now(UTC) - timedelta(hours=2)))
        return task

    async def in_user_code(self, name: str, worker: str = WORKER, **more: Any) -> FakeTask:
        """User code runs, and Airflow knows."""
        task = await self.started(name, worker, **more)
        seen = ReportUserCode(worker, "host-1", 4711, datetime.now(UTC))
        await self._records.change(task.dispatch, seen)
        task.state, task.process = "running", ("host-1", 4711)
        return task


async def calls_of_a_job(gate: FakeRelay, task: FakeTask, fake: CountingAirflow) -> dict[Series, float]:
    """Each kind of call, right and wrong; returns the answers as the keeper counts them."""
    ti, job = f"task-instances/{task.identity.ti_id}", task.dispatch
    xcom = f"xcoms/{DAG_ID}/{RUN_ID}/{task.identity.task_id}/key"
    ended = {"state": "success", "end_date": datetime.now(UTC).isoformat()}
    fake.variables["known"] = "v"
    fake.failures = 1
    thief = gate.but(key=b"x" * 32)
    made = [
        ("run", await gate.call("PATCH", job, f"{ti}/run", run_body()), 200),
        ("heartbeat", await gate.call("PUT", job, f"{ti}/heartbeat", {"hostname": "host-1", "pid": 4711}), 204),
        ("rtif", await gate.call("PUT", job, f"{ti}/rtif", {}), 201),
        ("xcom", await gate.call("POST", job, xcom, "v", request_id="the-same-request"), 201),
        ("xcom", await gate.call("POST", job, xcom, "v", request_id="the-same-request"), 201),
        ("variable", await gate.call("GET", job, "variables/known"), 200),
        ("variable", await gate.call("GET", job, "variables/unknown"), 404),
        ("variable", await thief.call("GET", job, "variables/known"), 401),
        ("connection", await gate.call("GET", job, "connections/c"), 404),
        ("connection", await gate.call("DELETE", job, "connections/c"), 403),
        ("asset", await gate.call("GET", job, "assets/by-name?name=a"), 404),
        ("other", await gate.call("GET", job, "dag-runs/count"), 404),
        ("other", await gate.call("GET", job, "made/up/by/a/task"), 404),
        ("state", await gate.call("PATCH", job, f"{ti}/state", ended), 204),
    ]
    answered: Counter[Series] = Counter()
    for call, reply, status in made:
        assert reply.status == status, (call, reply)
        answered[series("edge_keeper_gate_calls_total", call=call, status=str(status))] += 1
        answered[series("edge_keeper_gate_seconds_count", call=call)] += 1
    return dict(answered)


async def test_every_figure_is_what_happened(nats: NatsServer, fake: CountingAirflow) -> None:
    async with AsyncExitStack() as stack:
        records = RecordStore(await stack.enter_async_context(connected(nats, EXECUTOR)))
        relay = await stack.enter_async_context(connected(nats, RELAY))
        jobs = Jobs(records, fake)
        whole, silent = await jobs.started("whole"), await jobs.in_user_code("silent", "silent-1")
        marked, requeued = await jobs.in_user_code("marked"), await jobs.in_user_code("requeued")
        refused, failing = await jobs.in_user_code("refused"), await jobs.in_user_code("failing")
        lacked, beaten = (
            await jobs.in_user_code("lacked", "lacking-1"),
            await jobs.in_user_code("b", queue="q", team="t"),
        )
        gone = await jobs.waiting("gone")
        await jobs.parked("parked")
        held = [task.dispatch for task in (whole, marked, requeued, refused, failing, beaten)]
        await poll(relay, *held)
        await poll(relay, lacked.dispatch, worker="lacking-1")
        await poll(relay, silent.dispatch, worker="silent-1", ago_s=59.5 + CLOCK_STEP_S)

        await stack.enter_async_context(beating(relay))
        keeper = await stack.enter_async_context(running_keeper(nats, fake))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        gate = FakeRelay(session, port=keeper.port)

        async def scraped() -> dict[Series, float]:
            async with session.get(f"http://127.0.0.1:{keeper.port}/metrics") as reply:
                assert reply.headers["Content-Type"].startswith("text/plain")
                return parse(await reply.text())

        async def says(expected: Mapping[Series, float]) -> None:
            async def does() -> bool:
                now = await scraped()
                return all(now.get(key, 0) == value for key, value in expected.items())

            await eventually(does, what=f"{expected}")

        answered = await calls_of_a_job(gate, whole, fake)
        fake.refused = {refused.identity.ti_id: 422, failing.identity.ti_id: 500}
        marked.state, requeued.dispatch = "failed", "another"
        del fake.tasks[gone.identity.ti_id]
        await poll(relay, worker="lacking-1", incarnation=2)
        ends = {
            series("edge_keeper_stop_requests_total", reason="state"): 1,
            series("edge_keeper_stop_requests_total", reason="redispatched"): 1,
            series("edge_keeper_withdrawals_total", reason="gone"): 1,
            series("edge_keeper_give_ups_total", reason="silence"): 1,
            series("edge_keeper_give_ups_total", reason="missing"): 1,
            series("edge_queue_running_jobs", team="", queue="edge"): 3,
            series("edge_queue_running_jobs", team="t", queue="q"): 1,
            series("edge_queue_stopping_jobs", team="", queue="edge"): 2,
            series("edge_queue_stopping_jobs", team="t", queue="q"): 0,
            series("edge_queue_dead_jobs", team="", queue="edge"): 1,
            series("edge_queue_dead_jobs", team="t", queue="q"): 0,
        }
        await says(ends)
        for outcome in ("ok", "refused", "failed"):
            await at_least(scraped, series("edge_keeper_heartbeats_total", outcome=outcome), 2)
        beats = await settled(keeper, fake)
        await says(
            {series("edge_keeper_heartbeats_total", outcome=outcome): number for outcome, number in beats.items()}
        )

        figures = await scraped()
        calls = {call for call, _ in fake.answers}
        api = {series("edge_keeper_api_seconds_count", call=call): fake.asked(call) for call in calls}
        assert counted(figures) == {
            **answered,
            **api,
            **{key: value for key, value in ends.items() if key[0].endswith("_total")},
            **{series("edge_keeper_heartbeats_total", outcome=outcome): number for outcome, number in beats.items()},
            # One more than calls needed: the one that failed was tried again. Of the repeat none.
            series("edge_keeper_token_mints_total"): sum(fake.answers.values()),
            # The stranger's call and the call that is not on the list use nothing.
            series("edge_keeper_policy_accesses_total", kind="variable", outcome="allowed"): 2,
            series("edge_keeper_policy_accesses_total", kind="connection", outcome="allowed"): 1,
        }
        assert fake.answers["connection", 503] == 1
        assert fake.answers["xcom", 201] == 1
        build = series("edge_keeper_build_info", version=VERSION, airflow_version=version("apache-airflow-core"))
        sight = ("broker_connected", "view_complete", "contact_possible", "policies_known")
        assert [figures[series(f"edge_keeper_{name}")] for name in sight] == [1, 1, 1, 1]
        assert (figures[build], figures[series("edge_keeper_broker_reconnects_total")]) == (1, 0)
        assert 0 <= figures[series("edge_keeper_database_check_age_seconds")] < 5
        assert abs(figures[series("edge_keeper_relay_clock_skew_seconds", relay="relay-1")]) < 5
        assert figures[series("edge_keeper_event_loop_lag_seconds_count")] >= 1
        assert figures[series("process_resident_memory_bytes")] > 0
        stored = [await records.get(task.dispatch) for task in (silent, lacked, gone)]
        assert [record.state for record in stored if record is not None] == [JobState.ENDED] * 3
        assert figures[series("edge_keeper_ended_records")] == 3
        ids = {task.dispatch for task in fake.tasks.values()} | set(fake.tasks)
        assert not [key for key in figures for _, value in key[1] if value in ids]

        await nats.stop(kill=True)
        await says({series("edge_keeper_broker_connected"): 0})
        # What ran runs on, as far as is known.
        assert (await scraped())[series("edge_queue_running_jobs", team="", queue="edge")] == 3
        await nats.start()
        await says({series("edge_keeper_broker_connected"): 1, series("edge_keeper_broker_reconnects_total"): 1})


async def at_least(scraped: Callable[[], Any], key: Series, number: int) -> None:
    async def is_so() -> bool:
        return bool((await scraped()).get(key, 0) >= number)

    await eventually(is_so, what=f"{key} at least {number}")


async def settled(keeper: service.Keeper, fake: CountingAirflow) -> dict[str, int]:
    """No task is due for a beat from now on; the beats that arrived, once none is on its way."""
    for task in fake.tasks.values():
        task.last_heartbeat_at = LATER
    quiet = time.monotonic()

    def is_settled() -> bool:
        # Of two looks that ended since, one has begun since too.
        looked_at.add(keeper._watch._checked_at or 0)
        return len([at for at in looked_at if at > quiet]) >= 2 and not keeper._heartbeats._under_way

    looked_at: set[float] = set()
    await eventually(is_settled, what="no beat is on its way")
    heartbeats = {status: number for (call, status), number in fake.answers.items() if call == "heartbeat"}
    assert set(heartbeats) == {204, 422, 500}
    # One was the job's own.
    return {"ok": heartbeats[204] - 1, "refused": heartbeats[422], "failed": heartbeats[500]}


def counted(figures: dict[Series, float]) -> dict[Series, float]:
    """The counters and the numbers of observations, but those that time alone moves and those that still are 0."""
    moved_by_time = ("edge_keeper_event_loop", "edge_keeper_broker", "process_", "python_")
    return {
        (name, labels): value
        for (name, labels), value in figures.items()
        if value and name.endswith(("_total", "_count")) and not name.startswith(moved_by_time)
    }
