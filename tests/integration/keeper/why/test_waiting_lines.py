"""The line in the log of a task that waits: written once, by one keeper, and never in the way of the holder's file."""

import asyncio
import json
import random
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from edge_bridge.keeper.cluster_view import ClusterView
from edge_bridge.keeper.why import waiting_lines
from edge_bridge.keeper.why.desired_view import DesiredView
from edge_bridge.keeper.why.waiting_lines import LINES_AT_ONCE, MAX_LINES, WaitingLines
from edge_bridge.logs.store import StoredLogs
from edge_bridge.logs.text import lines
from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.connection.settings import BrokerSettings
from edge_broker.permissions import KEEPER, READER, RELAY
from edge_broker.record_mover import RecordMover
from edge_broker.records import RecordStore
from edge_broker.subjects import DESIRED_BUCKET
from edge_relay.standalone.nats_server import NatsServer
from edge_relay.stores.holders import holder_entry
from edge_relay.stores.log_store import LogStore, NewTenure
from edge_schemas.admin.desired import AvailabilityOrder, DesiredQueue
from edge_schemas.life.events import GiveUp, Start
from edge_schemas.life.model import JobRecord, new_record
from edge_schemas.why.job import queue_view
from edge_schemas.wire.jobs import Job, TaskIdentity, TaskWork
from edge_schemas.wire.workers import Availability
from support.airflow.keeper import beating, keeper_settings, poll, running_keeper
from support.airflow.real_airflow import DAG_ID, RUN_ID, RealAirflow, add_task
from support.nats.server import PASSWORDS, connected, eventually
from support.nats.sync_nats import RunningNats
from support.relay.jobs import make_job

pytestmark = pytest.mark.timeout(120)


@dataclass
class Waiting:
    """Two keepers' parts for the line, a relay's for logs, and Airflow's reader; time is the test's."""

    relay: Broker
    reader: StoredLogs
    records: RecordStore = field(init=False)
    store: LogStore = field(init=False)
    keepers: list[WaitingLines] = field(default_factory=list)
    views: list[ClusterView] = field(default_factory=list)
    later_s: float = 0.0

    def __post_init__(self) -> None:
        self.records, self.store = RecordStore(self.relay), LogStore(self.relay)

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.later_s)

    async def job(self, *, ago_s: float = 31.0) -> JobRecord:
        """A job that has waited so long; every keeper has seen its record."""
        job = make_job("edge").model_copy(update={"published_at": datetime.now(UTC) - timedelta(seconds=ago_s)})
        record = new_record(job)
        await self.records.create(record)
        await self.seen(lambda view: any(one.id == job.id for one in view.unfinished()))
        return record

    async def seen(self, is_seen: Any) -> None:
        await eventually(lambda: all(is_seen(view) for view in self.views), what="the keepers have seen it")

    def knows_order(self, *, is_set: bool) -> bool:
        """Whether each keeper knows that the queue has an order, or has none."""
        return all((one._desired.queue(None, "edge").order is not None) is is_set for one in self.keepers)

    async def check(self) -> None:
        """A pass of both keepers at the same moment."""
        await asyncio.gather(*(keeper.check() for keeper in self.keepers))

    async def log(self, record: JobRecord) -> list[str]:
        """The lines of the try, as Airflow's log page gets them."""
        assert record.task is not None
        key = (record.task.ti_id, record.task.try_number)

        def read() -> list[str]:
            return list(lines(self.reader.open(key) or (), complete=True))

        return await asyncio.to_thread(read)

    async def events(self, record: JobRecord) -> list[str]:
        return [json.loads(line)["event"] for line in await self.log(record)]


def _is_complete(view: ClusterView, desired: DesiredView) -> bool:
    return view.complete and desired.complete


@pytest.fixture
async def waiting(nats: NatsServer) -> AsyncIterator[Waiting]:
    settings = BrokerSettings((nats.url,), READER, PASSWORDS[READER])
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(connected(nats, RELAY))
        reader = StoredLogs(lambda: settings)
        stack.callback(reader.close)
        found = Waiting(relay, reader)
        await stack.enter_async_context(beating(relay))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks = []
        for _ in range(2):
            broker = await stack.enter_async_context(connected(nats, KEEPER))
            view = ClusterView(broker, RecordMover(RecordStore(broker)), lambda _: None)
            desired = DesiredView(broker)
            tasks += [group.create_task(view.run()), group.create_task(desired.run())]
            found.views.append(view)
            found.keepers.append(WaitingLines(view, desired, broker, airflow="3.3.2", now=found.now))
            await eventually(partial(_is_complete, view, desired), what="views")

        def ready(view: ClusterView) -> bool:
            view.tick()
            return view.contact_possible

        await found.seen(ready)
        yield found
        for task in tasks:
            task.cancel()


async def test_one_line_by_one_keeper_and_another_when_the_cause_changes(waiting: Waiting) -> None:
    young, record = await waiting.job(ago_s=20), await waiting.job()
    for _ in range(3):
        await waiting.check()
    assert await waiting.events(young) == []
    [event] = await waiting.events(record)
    assert event.startswith("Waited 31 s so far: No worker serves queue edge; enrol one")
    await poll(waiting.relay, worker="plant-1")
    await waiting.seen(lambda view: view.worker("plant-1") is not None)
    bucket = Bucket(waiting.relay, DESIRED_BUCKET)
    order = AvailabilityOrder(availability=Availability.PAUSED, reason="stocktaking", by="ann", since=waiting.now())
    await bucket.put("queue.edge", DesiredQueue(order=order).model_dump_json().encode())
    await waiting.check()
    assert len(await waiting.events(record)) == 1, "a cause that has just come may go again"
    waiting.later_s = 90

    async def second() -> bool:
        await waiting.check()
        return len(await waiting.events(record)) == 2

    await eventually(second, what="the second line")
    assert "Queue edge is paused by ann until an operator ends it: stocktaking" in (await waiting.events(record))[1]
    assert len(await waiting.events(young)) == 1


async def test_lines_of_a_job_are_few(waiting: Waiting) -> None:
    record = await waiting.job()
    bucket = Bucket(waiting.relay, DESIRED_BUCKET)
    for turn in range(2 * MAX_LINES):
        order = AvailabilityOrder(availability=Availability.PAUSED, reason="r", by="ann", since=waiting.now())
        await bucket.put("queue.edge", DesiredQueue(order=None if turn % 2 else order).model_dump_json().encode())
        await eventually(partial(waiting.knows_order, is_set=turn % 2 == 0), what="the order")
        waiting.later_s += 61
        await waiting.check()
        await waiting.check()
    assert len(await waiting.events(record)) == MAX_LINES


async def test_the_holders_file_and_the_lines_never_touch(waiting: Waiting) -> None:
    """Two tenures upload while two keepers write for the same job: each byte of a holder is there once, in order."""
    record = await waiting.job()
    job, wanted = record.id, []
    dice = random.Random(7)

    async def upload(worker: str, text: bytes) -> None:
        """As a relay does for a holder, in chunks that overlap and repeat."""
        entry = holder_entry(await waiting.records.get(job), worker)
        durable = 0
        while durable < len(text):
            start = max(0, durable - dice.randint(0, 40))
            chunk = text[start : start + dice.randint(1, 90)]
            try:
                durable = await waiting.store.append(entry, offset=start, data=chunk)
            except NewTenure:
                durable = await waiting.store.append(entry, offset=start, data=chunk, begin=True)

    async def keep_writing() -> None:
        while True:
            waiting.later_s += 61
            for keeper in waiting.keepers:  # as if each had seen another cause, whatever the record says by now
                keeper._written.clear()
                task = record.task
                assert task is not None
                written = await keeper._log.read(task, job)
                await keeper._log.write(task, job, written, code="c", text=f"line {written.number}", now=waiting.now())
            await asyncio.sleep(0)

    writing = asyncio.create_task(keep_writing())
    try:
        for tenure, worker in enumerate(("plant-1", "plant-2")):
            text = b"".join(b'{"event": "%s %d"}\n' % (worker.encode(), number) for number in range(150))
            _, after = await waiting.records.change(job, Start(worker, 1, waiting.now()))
            await upload(worker, text)
            wanted += [f"{worker} {number}" for number in range(150)]
            if not tenure:
                assert after.holder is not None
                await waiting.records.change(job, GiveUp("silent", waiting.now(), holder=after.holder))
    finally:
        writing.cancel()
        await asyncio.wait({writing})
    events = await waiting.events(record)
    assert [one for one in events if one.startswith("plant")] == wanted
    ours = [one for one in events if one.startswith("line")]
    assert ours == [f"line {number}" for number in range(len(ours))]
    assert len(ours) > 4


async def test_many_jobs_of_a_queue_cost_one_answer(waiting: Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 2 * LINES_AT_ONCE + 1
    records = [new_record(make_job("edge")) for _ in range(count)]
    old = [one.model_copy(update={"created_at": one.created_at - timedelta(seconds=40)}) for one in records]
    for start in range(0, count, 100):
        await asyncio.gather(*(waiting.records.create(one) for one in old[start : start + 100]))
    await waiting.seen(lambda view: len(view.unfinished()) == count)
    views: list[object] = []
    original = queue_view

    def counting(*args: Any) -> Any:
        views.append(args)
        return original(*args)

    monkeypatch.setattr(waiting_lines, "queue_view", counting)
    written = []
    for _ in range(4):
        await waiting.keepers[0].check()
        written.append(sum(bool(one.number) for one in waiting.keepers[0]._written.values()))
    assert written == [LINES_AT_ONCE, 2 * LINES_AT_ONCE, count, count]
    assert len(views) == 3


class LogPage:
    """Reads logs as Airflow's UI does."""

    def __init__(self, airflow: RealAirflow) -> None:
        self._url = airflow.url
        with urllib.request.urlopen(f"{airflow.url}/auth/token", timeout=10) as reply:
            self._token = json.load(reply)["access_token"]

    def read(self, task_id: str) -> list[str]:
        url = f"{self._url}/api/v2/dags/{DAG_ID}/dagRuns/{RUN_ID}/taskInstances/{task_id}/logs/1"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self._token}"})
        request.add_header("Accept", "application/json")
        with urllib.request.urlopen(request, timeout=30) as reply:
            return [line["event"] for line in json.load(reply)["content"]]


async def test_it_is_in_airflows_log_page_while_the_task_is_queued(
    airflow: RealAirflow, nats_for_logs: RunningNats
) -> None:
    """From a whole keeper to Airflow's own api-server."""
    page = await asyncio.to_thread(LogPage, airflow)
    server: Any = nats_for_logs
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(connected(server, RELAY))
        await stack.enter_async_context(beating(relay))
        await poll(relay, worker="plant-1")
        ids = add_task("queued", executor="edge")
        task = TaskIdentity(ti_id=ids.ti_id, dag_id=DAG_ID, run_id=RUN_ID, task_id=ids.task_id, try_number=1)
        at = datetime.now(UTC) - timedelta(seconds=28)
        work = TaskWork(task=task, workload={}, core_executor="")
        await RecordStore(relay).create(new_record(Job(id=ids.job, queue="nowhere", work=work, published_at=at)))
        await stack.enter_async_context(running_keeper(keeper_settings(server, airflow)))
        began = time.monotonic()

        async def shown() -> str | None:
            events = await asyncio.to_thread(page.read, ids.task_id)
            return next((one for one in events if one.startswith("Waited 3")), None)

        line = await eventually(shown, timeout_s=15, what="the line in Airflow's log page")
        assert line is not None
        assert "No worker serves queue nowhere" in line
        assert time.monotonic() - began < 12
