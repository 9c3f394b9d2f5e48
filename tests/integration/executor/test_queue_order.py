"""An executor's background, a real relay and NATS: which of the waiting jobs a worker is granted next."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge_bridge.airflow.dispatch_table import Entry
from edge_bridge.airflow.mapping import JobMaker
from edge_bridge.airflow.queues import QueueRules, Queues
from edge_bridge.executor.background import Background
from edge_bridge.executor.metrics import ExecutorMetrics
from edge_bridge.executor.settings import ExecutorSettings
from edge_bridge.tracing import CentreJobSpans
from edge_broker.connection.settings import BrokerSettings
from edge_broker.jetstream.stream_info import subjects_with_messages
from edge_broker.permissions import EXECUTOR
from edge_broker.subjects import JOBS, consumer_name, queue_filter
from edge_schemas.life.events import Expire, Withdraw
from edge_schemas.life.model import JobState
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import Job, JobKind, TaskWork
from edge_schemas.wire.offline import OfflinePolicy
from edge_service.tracing import Spans
from support.nats.server import PASSWORDS, eventually
from support.relay.agents import Agent, agent
from support.relay.edge import Edge, running_edge
from support.relay.jobs import make_auxiliary_job, make_job

AHEAD = 4
QUEUES = Queues(QueueRules(OfflinePolicy()))

Backgrounds = Callable[[], Any]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path) as running:
        yield running


@asynccontextmanager
async def running_background(site: Edge) -> AsyncIterator[Background]:
    """The part of an executor that speaks to NATS, until the scheduler dies."""
    settings = ExecutorSettings(
        broker=BrokerSettings(urls=(site.server.url,), role=EXECUTOR, password=PASSWORDS[EXECUTOR]),
        core_executor="LocalExecutor",
        bundle_wait_s=60,
        publish_ahead=AHEAD,
        reconcile_interval_s=3600,
        queues=QUEUES,
        auxiliary_queues={},
        metrics_host="127.0.0.1",
        metrics_port=None,
    )
    maker = JobMaker("LocalExecutor", None, QUEUES, {})
    background = Background(settings, maker, None, ExecutorMetrics().of(None), CentreJobSpans(Spans()))
    running = asyncio.create_task(background.run())
    yield background
    running.cancel()
    await asyncio.wait({running})


@pytest.fixture
async def background(site: Edge) -> AsyncIterator[Background]:
    async with running_background(site) as running:
        yield running


def weighted(weight: int) -> Job:
    """A job of a task with this weight."""
    job = make_job()
    assert isinstance(job.work, TaskWork)
    work = job.work.model_copy(update={"workload": {"ti": {"priority_weight": weight}}})
    return job.model_copy(update={"work": work})


def entry(job: Job) -> Entry:
    auxiliary = job.auxiliary
    return Entry(job.id, job.id, dispatch=job.id, task=job.task, auxiliary=auxiliary)


async def hand_out(background: Background, jobs: list[Job]) -> None:
    """As the scheduler does; returns when all have a record."""
    background.publish([entry(job) for job in jobs], jobs)
    waiting = partial(background.dispatches.select, lambda one: one.state is JobState.WAITING)
    wanted = len(waiting()) + len(jobs)
    await eventually(lambda: len(waiting()) >= wanted and not len(background.publisher), what="all jobs have a record")


async def messages(site: Edge) -> int:
    return len(await subjects_with_messages(site.broker, JOBS, queue_filter(None, "default")))


async def take(worker: Agent, number: int, *, slots: int = 1, **report: Any) -> list[str]:
    """The jobs that the worker starts, in the order of their grants."""
    taken: list[str] = []
    while len(taken) < number:
        for grant in await worker.grants(min(slots, number - len(taken)), **report):
            job = grant["job"]["id"]
            assert (await worker.start(grant)).status < 300
            taken.append(job)
    return taken


async def finish(worker: Agent, jobs: Iterable[str]) -> None:
    for job in jobs:
        assert (await worker.finish(job, exit_code=0)).status < 300


def ids(jobs: Iterable[Job]) -> list[str]:
    return [job.id for job in jobs]


async def test_a_later_job_of_high_weight_is_next_behind_a_deep_backlog(site: Edge, background: Background) -> None:
    """At most the messages that are ahead of the free slots come before it."""
    backlog = [weighted(1) for _ in range(500)]
    await hand_out(background, backlog)
    worker = await agent(site)
    await finish(worker, await take(worker, 3))
    high = weighted(100)
    await hand_out(background, [high])
    assert high.id in await take(worker, AHEAD + 1)
    assert background.order.held >= 480


async def test_equal_weights_are_first_come_first_served(site: Edge, background: Background) -> None:
    """In the order of the hand-out, and again after each start."""
    jobs = [weighted(5) for _ in range(60)]
    await hand_out(background, jobs)
    worker = await agent(site)
    assert await take(worker, 60) == ids(jobs)


async def test_callbacks_are_before_tasks(site: Edge, background: Background) -> None:
    """Even before those of a higher weight."""
    await hand_out(background, [weighted(1000) for _ in range(30)])
    callback = make_auxiliary_job("default")
    await hand_out(background, [callback])
    worker = await agent(site)
    assert callback.id in await take(worker, AHEAD + 1, auxiliary=["callback"])


async def test_callbacks_that_no_worker_may_run_keep_no_task_back(site: Edge, background: Background) -> None:
    """Workers run callbacks only where their owner allows it."""
    await hand_out(background, [make_auxiliary_job("default") for _ in range(10)])
    jobs = [weighted(1) for _ in range(20)]
    await hand_out(background, jobs)
    worker = await agent(site)
    assert await take(worker, 20) == ids(jobs)


async def test_a_queue_is_no_deeper_than_its_free_slots_need(site: Edge, background: Background) -> None:
    """Every free slot gets a job at once; nothing else is published but the few that are ahead."""
    worker = await agent(site)
    poll = asyncio.create_task(worker.poll(free=8))
    await eventually(lambda: background._demand.free("default") == 8, what="the demand is known")
    await hand_out(background, [weighted(1) for _ in range(100)])
    grants = (await poll).json["grants"]
    depths = [await messages(site)]
    for grant in grants:
        assert (await worker.start(grant)).status < 300
    for _ in range(20):
        [job] = await take(worker, 1)
        depths.append(await messages(site))
        await finish(worker, [job])
    # After the report of a poll's free slot, and before that of its job, there may be one more.
    assert max(depths) <= 8 + AHEAD + 1
    assert max(depths[1:]) <= 8 + AHEAD + 1
    assert background.order.held >= 100 - 8 - 20 - 8 - AHEAD - 1


async def test_without_any_demand_a_queue_has_a_few_messages(site: Edge, background: Background) -> None:
    """A worker that comes later finds jobs, and then gets all of them."""
    jobs = [weighted(1) for _ in range(20)]
    await hand_out(background, jobs)
    assert await messages(site) == AHEAD
    worker = await agent(site)
    assert sorted(await take(worker, 20, slots=8)) == sorted(ids(jobs))
    assert background.order.held == 0


async def test_a_successor_continues_the_order(site: Edge) -> None:
    """What the dead scheduler has held back is held by its successor, which counts what is in NATS."""
    jobs = [weighted(weight) for weight in range(30)]
    async with AsyncExitStack() as first:
        await hand_out(await first.enter_async_context(running_background(site)), jobs)
    async with running_background(site) as second:
        records = await second.read_records(ids(jobs))
        known = [(entry(job), record) for job in jobs if (record := records[job.id])]
        second.adopt(known, [])
        await eventually(lambda: second.order.held > 0 and not second._messages.qsize(), what="all are checked")
        assert await messages(site) <= 2 * AHEAD
        worker = await agent(site)
        taken = await take(worker, 30)
        assert sorted(taken) == sorted(ids(jobs))
        ahead = await _positions(taken, jobs)
        assert all(abs(position - wanted) <= 2 * AHEAD for position, wanted in ahead)


async def _positions(taken: list[str], jobs: list[Job]) -> list[tuple[int, int]]:
    """Where each job came, and where it should have come by its weight."""
    best = ids(reversed(jobs))
    return [(taken.index(job), best.index(job)) for job in best]


async def test_a_successor_that_reads_the_records_late_publishes_all(site: Edge) -> None:
    """NATS was away when the tasks were adopted."""
    jobs = [weighted(1) for _ in range(12)]
    async with running_background(site) as first:
        await hand_out(first, jobs)
    async with running_background(site) as second:
        second.adopt([], [entry(job) for job in jobs])
        worker = await agent(site)
        assert sorted(await take(worker, 12)) == sorted(ids(jobs))


async def test_nats_goes_and_comes_back(site: Edge, background: Background) -> None:
    """What was held and what came meanwhile is granted in order."""
    low = [weighted(1) for _ in range(20)]
    await hand_out(background, low)
    await site.server.stop(kill=True)
    high = [weighted(50) for _ in range(3)]
    background.publish([entry(job) for job in high], high)
    await asyncio.sleep(0.3)
    await site.server.start()
    await eventually(lambda: site.broker.connected and site.relays[0].parts.broker.connected, what="NATS is back")
    worker = await agent(site)
    taken = await take(worker, 23)
    assert sorted(taken) == sorted(ids([*low, *high]))
    assert max(taken.index(job.id) for job in high) < 3 + AHEAD + 1


@pytest.mark.parametrize("event", [Withdraw, Expire])
async def test_a_held_job_that_ends_gets_no_message(site: Edge, background: Background, event: Any) -> None:
    """Taken back by a user, or waited for too long: from the hand-out, not from the message."""
    jobs = [weighted(1) for _ in range(AHEAD + 3)]
    await hand_out(background, jobs)
    before = await site.records.get(jobs[-1].id)
    assert before is not None
    assert before.waits_since == jobs[-1].published_at
    await site.records.change(jobs[-1].id, event("no longer wanted", datetime.now(UTC)))
    await eventually(lambda: background.order.held == 2, what="the job has left")
    worker = await agent(site)
    assert await take(worker, AHEAD + 2) == ids(jobs[:-1])

    async def is_empty() -> bool:
        return await messages(site) == 0

    await eventually(is_empty, what="no message is left")


async def test_a_comparison_does_not_publish_what_is_held(site: Edge, background: Background) -> None:
    """A waiting record without a message is no loss, as long as its executor holds the message back."""
    jobs = [weighted(1) for _ in range(20)]
    await hand_out(background, jobs)
    entries = background.dispatches.select(lambda one: one.is_waiting)
    assert background._connection is not None
    repair = background.reconciler.messages
    await repair.repair_all(*background._connection, [one for one in entries if one.job not in background.publisher])
    for job in jobs:
        await repair.repair(*background._connection, job.id)
    await asyncio.sleep(0.2)
    assert await messages(site) == AHEAD
    assert background.order.held == 20 - AHEAD


async def test_a_lost_message_is_published_again_when_it_is_due(site: Edge, background: Background) -> None:
    """It does not count as being in the queue any longer."""
    jobs = [weighted(1) for _ in range(10)]
    await hand_out(background, jobs)
    await site.broker.api(f"STREAM.PURGE.{JOBS}", {})
    assert background._connection is not None
    waiting = background.dispatches.select(lambda one: one.is_waiting and one.job not in background.publisher)
    assert len(waiting) == AHEAD
    await background.reconciler.messages.repair_all(*background._connection, waiting)
    worker = await agent(site)
    assert sorted(await take(worker, 10)) == sorted(ids(jobs))


async def test_released_jobs_do_not_hold_up_the_others(site: Edge, background: Background) -> None:
    """A worker returns what it can't run; it is offered again later, and the others meanwhile."""
    jobs = [weighted(9) for _ in range(AHEAD + 1)] + [weighted(1) for _ in range(10)]
    await hand_out(background, jobs)
    worker = await agent(site)
    odd = set(ids(jobs[: AHEAD + 1]))
    taken: list[str] = []
    deadline = datetime.now(UTC) + timedelta(seconds=25)
    while len(taken) < 10 and datetime.now(UTC) < deadline:
        for grant in await worker.grants(1):
            if grant["job"]["id"] in odd:
                assert (await worker.release(grant)).status < 300
            else:
                assert (await worker.start(grant)).status < 300
                taken.append(grant["job"]["id"])
    assert sorted(taken) == sorted(ids(jobs[AHEAD + 1 :]))


async def test_free_slots_of_workers_of_commands_release_no_tasks(site: Edge, background: Background) -> None:
    """Nor callbacks that they do not accept; the tasks keep their order until a worker of tasks polls."""
    other = await agent(site)
    polling = asyncio.create_task(other.poll(kinds=["command"], free=8))
    commands = consumer_name(None, "default", JobKind.COMMAND)
    await eventually(lambda: background._demand.free(commands) == 8, what="the executor knows of the slots")
    jobs = [weighted(1) for _ in range(10)]
    high = weighted(100)
    await hand_out(background, jobs)
    await hand_out(background, [high])
    assert await messages(site) == AHEAD
    assert (await take(await agent(site), AHEAD + 1))[-1] == high.id
    polling.cancel()


async def test_an_operators_limit_holds_at_a_worker_with_many_free_slots(site: Edge, background: Background) -> None:
    """And the next job follows as soon as one has ended."""
    body = {"action": {"do": "set", "max_running": 2}, "queues": [{"queue": "default"}], "reason": "a licence for two"}
    assert (await site.admin("POST", routes.ADMIN_QUEUE_ACTIONS, body)).json["changed"] == ["default"]
    await eventually(lambda: QUEUES.rules("default").max_running == 2, what="the executor knows")
    try:
        jobs = [weighted(1) for _ in range(5)]
        await hand_out(background, jobs)
        worker = await agent(site)
        started = await take(worker, 2, slots=8)
        assert (await worker.poll(free=6, poll_timeout_s=1)).status == 204
        assert await messages(site) == 0
        await finish(worker, started[:1])
        assert set(await take(worker, 1, slots=8)) <= set(ids(jobs)) - set(started)
    finally:
        QUEUES.set_desired("default", None)
