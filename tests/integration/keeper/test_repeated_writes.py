"""Each write of a job through each fault between keeper and api-server: it is made once, and answered as without one.

The other side of the keeper repeats a call under its request id until it is answered, as an agent's gateway does.
"""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from unittest.mock import patch

import aiohttp
import pytest
import pytest_asyncio

from edge_bridge.keeper.gate import upstream
from edge_broker.permissions import EXECUTOR, RELAY
from edge_broker.records import RecordStore
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.wire.jobs import AuxiliaryKind
from edge_worker.gateway.fates import FAILURE_TRIES
from support.airflow import postgres
from support.airflow.airflow_home import dag_run
from support.airflow.api.holdings import holdings, impersonal
from support.airflow.api.writes import WRITES, Subject, Write
from support.airflow.keeper import Centre, FakeRelay, GateReply, keeper_settings, running_keeper
from support.airflow.real_airflow import DAG_ID, RUN_ID, RealAirflow, running_airflow
from support.nats.server import connected, running_server
from support.network.http_link import Fault, HttpLink, Point, Strike
from support.network.link import Cut

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(180),  # the first one starts Airflow
    postgres.needed(),
]

AT_ONCE = 8
REPEAT_PAUSE_S = 0.1
HANG_S = 3.0
"""After which a keeper tries again."""
PATIENT_S = 60.0
"""Longer than it takes until each write has been committed."""

Result = tuple[bool, str, dict[str, str]]
"""Whether a write was accepted, the answer, and what Airflow holds then."""
Expected = dict[str, Result]


@dataclass
class Way:
    """A keeper, and the link between it and the api-server.

    Attributes:
        other: A second keeper.
        expected: What becomes of each write without a fault.
    """

    centre: Centre
    other: FakeRelay
    link: HttpLink
    target: str
    expected: Expected

    async def begin(self, write: Write) -> Subject:
        """A job that a worker has started."""
        subject = await asyncio.to_thread(write.subject, self.target)
        if write.is_test:
            await self.centre.auxiliary(AuxiliaryKind.CONNECTION_TEST, subject.ids.job)
        else:
            await self.centre.started(subject.ids)
        return subject

    def arm(self, write: Write, subject: Subject, fault: Fault, at: Point, *, times: int = 1) -> Strike:
        """A fault for the write's call."""
        meanwhile = _once(partial(asyncio.to_thread, write.meanwhile, subject)) if at is Point.ANSWER else None
        call = write.call_of(subject)
        return self.link.arm(fault, call.method, f"/{re.escape(call.path)}$", at=at, times=times, meanwhile=meanwhile)

    async def deliver(self, write: Write, subject: Subject) -> GateReply:
        """Make the write's call, under one request id, until its fate is decided."""
        call, request_id, failures = write.call_of(subject), uuid.uuid4().hex, 0
        while True:
            reply = await self.centre.relay.call(
                call.method, subject.ids.job, call.path, call.body, request_id=request_id
            )
            failures += reply.from_airflow and reply.status >= 500
            if failures == FAILURE_TRIES or (reply.status < 500 if reply.from_airflow else not reply.body["retryable"]):
                return reply
            await asyncio.sleep(REPEAT_PAUSE_S)


def _once(act: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
    done: list[None] = []

    async def once() -> None:
        if not done:
            done.append(None)
            await act()

    return once


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def airflow() -> AsyncIterator[RealAirflow]:
    """An Airflow on PostgreSQL: SQLite has one writer at a time, and no two tries overlap there."""
    async with postgres.postgres() as url:
        with running_airflow({"AIRFLOW__CORE__EXECUTOR": "LocalExecutor"}, database=url) as running:
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nats(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsServer]:
    async with running_server(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture(scope="module")
def target(airflow: RealAirflow) -> Iterator[str]:
    """A DAG to trigger and to clear."""
    with dag_run(1) as dag:
        yield dag.dag_id


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def expected(airflow: RealAirflow, nats: NatsServer, target: str) -> Expected:
    """What becomes of each write without a fault."""
    async with a_way(airflow, nats, target, {}) as way:
        return await of_all(partial(without_fault, way))


@pytest_asyncio.fixture(loop_scope="module")
async def way(airflow: RealAirflow, nats: NatsServer, target: str, expected: Expected) -> AsyncIterator[Way]:
    async with a_way(airflow, nats, target, expected) as way:
        yield way


@asynccontextmanager
async def a_way(
    airflow: RealAirflow, nats: NatsServer, target: str, expected: Expected, *, hang_s: float = HANG_S
) -> AsyncIterator[Way]:
    """Two keepers that try again after a time."""
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(HttpLink.to(airflow.url))
        settings = replace(keeper_settings(nats, airflow), execution_api_url=f"{link.url}/execution/")
        broker = await stack.enter_async_context(connected(nats, EXECUTOR))
        relay_broker = await stack.enter_async_context(connected(nats, RELAY))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        stack.enter_context(patch.object(upstream, "CALL_TIMEOUT_S", hang_s))
        keepers = [await stack.enter_async_context(running_keeper(settings)) for _ in range(2)]
        relay, other = (FakeRelay(session, port=keeper.port) for keeper in keepers)
        centre = Centre(keepers[0], relay, RecordStore(broker), relay_broker, nats)
        yield Way(centre, other, link, target, expected)


async def of_all(make: Callable[[Write], Awaitable[Result]], *, at_once: int = AT_ONCE) -> Expected:
    """What becomes of each write."""
    limit = asyncio.Semaphore(at_once)

    async def limited(write: Write) -> Result:
        async with limit:
            return await make(write)

    results = await asyncio.gather(*map(limited, WRITES))
    return dict(zip((write.name for write in WRITES), results, strict=True))


async def without_fault(way: Way, write: Write) -> Result:
    subject = await way.begin(write)
    reply = await way.deliver(write, subject)
    await asyncio.to_thread(write.meanwhile, subject)
    return await result(write, subject, reply)


async def result(write: Write, subject: Subject, reply: GateReply) -> Result:
    """What a task and Airflow have of a write."""
    fields = reply.body if isinstance(reply.body, dict) and write.name != "start" else {}
    kept = sorted((name, value) for name, value in fields.items() if name not in {"responded_at", "conn_id"})
    return 200 <= reply.status < 300, impersonal(kept, subject), await asyncio.to_thread(holdings, subject)


def compare(found: Expected, expected: Expected) -> None:
    """All at once: one cell that differs says less than its neighbours."""
    differing = {name: (found[name], expected[name]) for name in expected if found[name] != expected[name]}
    text = "\n".join(f"{name}:\n  found    {one}\n  expected {other}" for name, (one, other) in differing.items())
    assert not differing, text


@asynccontextmanager
async def being_stored(subject: Subject, value: object) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A transaction that stores a value as the return value of the subject's task; gives its commit."""
    from airflow import settings
    from airflow.models.xcom import XComModel

    assert settings.NonScopedSession is not None
    session = settings.NonScopedSession()
    own = partial(XComModel.set, dag_id=DAG_ID, run_id=RUN_ID, task_id=subject.ids.task_id, session=session)
    await asyncio.to_thread(own, key="return_value", value=value, serialize=False)
    try:
        yield partial(asyncio.to_thread, session.commit)
    finally:
        await asyncio.to_thread(session.close)


def wait_for_a_lock() -> None:
    """Until a transaction waits for another one."""
    from airflow.utils.session import create_session
    from sqlalchemy import text

    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with create_session(scoped=False) as session:
            if session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                return
        time.sleep(0.02)
    raise AssertionError("no transaction waits")


async def test_without_a_fault_each_write_is_accepted(way: Way) -> None:
    assert [name for name, (is_accepted, _, _) in way.expected.items() if not is_accepted] == []


@pytest.mark.parametrize(
    ("fault", "at", "times"),
    [
        pytest.param(Fault.SERVER_ERROR, Point.REQUEST, 1, id="500"),
        pytest.param(Fault.SERVER_ERROR, Point.ANSWER, 1, id="500 after the commit"),
        pytest.param(Fault.BAD_GATEWAY, Point.REQUEST, 4, id="502 of a proxy"),
        pytest.param(Fault.BAD_GATEWAY, Point.ANSWER, 4, id="502 of a proxy after the commit", marks=pytest.mark.soak),
        pytest.param(Fault.RESET, Point.REQUEST, 4, id="reset before the commit", marks=pytest.mark.soak),
        pytest.param(Fault.RESET, Point.ANSWER, 4, id="reset after the commit"),
        pytest.param(Fault.BLACK_HOLE, Point.REQUEST, 1, id="hang before the commit"),
        pytest.param(Fault.BLACK_HOLE, Point.ANSWER, 1, id="hang after the commit", marks=pytest.mark.soak),
    ],
)
async def test_each_write_through_a_fault(way: Way, fault: Fault, at: Point, times: int) -> None:
    """Three tries of one keeper and the first of the repeated call fail."""

    async def through_it(write: Write) -> Result:
        subject = await way.begin(write)
        strike = way.arm(write, subject, fault, at, times=times)
        reply = await way.deliver(write, subject)
        assert strike.happened.is_set(), write.name
        if at is Point.REQUEST:
            await asyncio.to_thread(write.meanwhile, subject)
        return await result(write, subject, reply)

    compare(await of_all(through_it, at_once=len(WRITES) if fault is Fault.BLACK_HOLE else AT_ONCE), way.expected)


async def test_each_write_whose_keeper_hangs_after_the_commit(way: Way) -> None:
    """The repeat comes to another keeper, which knows of the first try only what record and database show."""

    async def by_two_keepers(write: Write) -> Result:
        subject = await way.begin(write)
        strike = way.arm(write, subject, Fault.BLACK_HOLE, Point.ANSWER)
        call, request_id = write.call_of(subject), uuid.uuid4().hex
        first = asyncio.create_task(
            way.centre.relay.call(call.method, subject.ids.job, call.path, call.body, request_id=request_id)
        )
        await strike.happened.wait()
        reply = await way.other.call(call.method, subject.ids.job, call.path, call.body, request_id=request_id)
        made = await result(write, subject, reply)
        late = await first
        assert made == await result(write, subject, late), "the first keeper tries again later"
        return made

    compare(await of_all(by_two_keepers, at_once=len(WRITES)), way.expected)


@pytest.mark.soak
@pytest.mark.timeout(240)
async def test_each_write_whose_api_server_is_killed_after_the_commit(
    airflow: RealAirflow, nats: NatsServer, target: str, expected: Expected
) -> None:
    """To the keeper this is a reset after the commit and an absence."""
    async with a_way(airflow, nats, target, expected, hang_s=PATIENT_S) as way:
        committed: asyncio.Queue[str] = asyncio.Queue()
        is_killed = asyncio.Event()
        begun = asyncio.Semaphore(AT_ONCE)

        async def kill_when_all_have_committed() -> None:
            for _ in WRITES:
                await committed.get()
            await asyncio.to_thread(airflow.server.kill)
            is_killed.set()
            await way.link.cut(Cut.REFUSE)
            await asyncio.to_thread(airflow.server.start)
            await way.link.restore()

        async def killed_under_it(write: Write) -> Result:
            async with begun:
                subject = await way.begin(write)
                strike = way.arm(write, subject, Fault.BLACK_HOLE, Point.ANSWER)
                delivery = asyncio.create_task(way.deliver(write, subject))
                await strike.happened.wait()
            committed.put_nowait(write.name)
            reply = await delivery
            assert is_killed.is_set(), f"{write.name} was answered before"
            return await result(write, subject, reply)

        killing = asyncio.create_task(kill_when_all_have_committed())
        found = await of_all(killed_under_it, at_once=len(WRITES))
        await killing
    compare(found, expected)


async def test_each_write_that_is_too_large_for_a_server_in_front_fails_at_once(way: Way) -> None:
    async def refused(write: Write) -> tuple[int, bool]:
        subject = await way.begin(write)
        before = await asyncio.to_thread(holdings, subject)
        strike = way.arm(write, subject, Fault.TOO_LARGE, Point.REQUEST, times=100)
        reply = await way.deliver(write, subject)
        assert strike.count == 1, write.name
        return reply.status, await asyncio.to_thread(holdings, subject) == before

    assert set(await asyncio.gather(*map(refused, WRITES))) == {(413, True)}


async def test_each_write_at_which_the_api_server_always_fails_ends(way: Way) -> None:
    async def failed(write: Write) -> tuple[int, bool]:
        subject = await way.begin(write)
        before = await asyncio.to_thread(holdings, subject)
        strike = way.arm(write, subject, Fault.SERVER_ERROR, Point.REQUEST, times=100)
        reply = await way.deliver(write, subject)
        assert strike.count == FAILURE_TRIES, write.name
        return reply.status, await asyncio.to_thread(holdings, subject) == before

    assert set(await asyncio.gather(*map(failed, WRITES))) == {(500, True)}


@pytest.mark.parametrize(
    ("is_repeat", "is_same", "status"), [(True, True, 201), (True, False, 409), (False, True, 409)]
)
async def test_an_xcom_that_is_being_stored_when_a_try_of_it_arrives(
    way: Way, *, is_repeat: bool, is_same: bool, status: int
) -> None:
    """An api-server that was given up may still hold a transaction. Airflow rejects what overlaps with it.

    The answer to a repeat depends on what is stored then. A first try was rejected because of somebody else's write.
    """
    write = next(write for write in WRITES if write.name == "XCom")
    subject = await way.begin(write)
    call = write.call_of(subject)
    value = call.body if is_same else "another value"
    async with being_stored(subject, value) as commit:
        if is_repeat:
            way.arm(write, subject, Fault.RESET, Point.REQUEST)
        delivery = asyncio.create_task(way.deliver(write, subject))
        await asyncio.to_thread(wait_for_a_lock)
        await commit()
        reply = await delivery
    assert reply.status == status
