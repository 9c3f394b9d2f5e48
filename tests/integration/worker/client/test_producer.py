"""A producer as a library: how it opens and closes, its errors, and what it says of a job that waits."""

import asyncio
import pickle
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_schemas.admin.why import CauseCode
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_worker.client import AsyncProducer, NoAnswer, Parked, Producer, Refused, Retry
from support.nats.server import eventually
from support.relay.agents import agent
from support.relay.edge import Edge, running_edge
from support.relay.producers import producer

QUEUE = "orders"


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path / "edge") as running:
        yield running


async def plain(edge: Edge) -> Producer:
    secret = (await producer(edge, QUEUE)).secret
    return Producer(edge.relays[0].workers_url, token=secret, ca_file=edge.ca)


async def test_a_plain_producer_needs_no_with(edge: Edge) -> None:
    """It connects at the first call; a call before that must not wait for ever."""
    jobs = await plain(edge)

    def use() -> None:
        try:
            assert jobs.status(jobs.submit(QUEUE, "7")).queue == QUEUE
        finally:
            jobs.close()
            jobs.close()
        with pytest.raises(RuntimeError, match="the producer is closed"):
            jobs.submit(QUEUE, "8")

    await asyncio.to_thread(use)


async def test_closing_ends_a_wait_of_another_thread(edge: Edge) -> None:
    jobs = await plain(edge)
    waiting = asyncio.create_task(asyncio.to_thread(lambda: jobs.wait(jobs.submit(QUEUE, "7"))))
    await eventually(lambda: len(edge.relays[0].parts.waits) == 1)
    await asyncio.to_thread(jobs.close)
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_producer_that_is_not_open_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with AsyncProducer"):
        await AsyncProducer("http://127.0.0.1:1", token="era_x").submit(QUEUE, "7")


async def test_a_wait_ends_when_the_job_is_parked(edge: Edge) -> None:
    """Only an operator can let the job run again: a program that waits for its end would wait for ever."""
    one, secret = await agent(edge, queue=QUEUE), (await producer(edge, QUEUE)).secret
    async with AsyncProducer(edge.relays[0].workers_url, token=secret, ca_file=edge.ca) as jobs:
        job = await jobs.submit(QUEUE, "7", max_attempts=1)
        [grant] = await one.grants(kinds=["payload"])
        assert (await one.start(grant)).status == 204
        assert (await one.release(grant, reason="no such meter")).status == 204
        with pytest.raises(Parked, match="no such meter") as parked:
            await jobs.wait(job)
    assert parked.value.job == job
    assert "no such meter" in parked.value.reason


async def test_a_producer_is_told_why_a_job_waits(edge: Edge) -> None:
    secret = (await producer(edge, QUEUE)).secret
    async with AsyncProducer(edge.relays[0].workers_url, token=secret, ca_file=edge.ca) as jobs:
        job = await jobs.submit(QUEUE, "7")
        [cause] = (await jobs.why(job)).causes
        assert cause.code is CauseCode.NO_WORKER
        with pytest.raises(TimeoutError, match=f"job {job} has not ended within 0.1 s"):
            await jobs.wait(job, timeout_s=0.1)


@pytest.mark.parametrize(("more", "said"), [({}, "a payload or a command"), ({"command": "ls -l"}, "no shell")])
async def test_wrong_work_is_refused_before_it_is_sent(more: dict[str, str], said: str) -> None:
    """A command in one text would become a command of letters, and a forgotten payload an empty one."""
    async with AsyncProducer("http://127.0.0.1:1", token="era_x") as jobs:
        with pytest.raises(TypeError, match=said):
            await jobs.submit(QUEUE, **more)  # type: ignore[arg-type]  # as a caller without mypy


def test_exceptions_survive_a_pool_of_processes() -> None:
    """An exception that can't be unpickled breaks a `ProcessPoolExecutor`."""
    refused = Refused(EdgeError(ErrorCode.FORBIDDEN, "no access").problem(), 3.0, origin="relay")
    for error in (refused, NoAnswer("gone", status=502), Parked("j", "why"), Retry(5.0, "later")):
        copy = pickle.loads(pickle.dumps(error))
        assert (str(copy), vars(copy)) == (str(error), vars(error))
