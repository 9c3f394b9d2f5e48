"""Producers and consumers of the client library together, with a real relay and a real NATS."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_schemas.life.model import JobState, Verdict
from edge_worker.client import AsyncProducer, NoAnswer, PayloadJob, Producer, Refused, Retry
from support.nats.server import free_port
from support.operators.consumers import consuming
from support.relay.edge import Edge, running_edge
from support.relay.producers import producer

QUEUE = "orders"


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path / "edge") as running:
        yield running


def jobs_of(edge: Edge, secret: str) -> AsyncProducer:
    return AsyncProducer(edge.relays[0].workers_url, token=secret, ca_file=edge.ca)


async def token(edge: Edge) -> str:
    return (await producer(edge, QUEUE)).secret


async def test_a_job_is_retried_with_the_next_attempt(edge: Edge, tmp_path: Path) -> None:
    """And its labels arrive; the result is that of the last attempt."""
    attempts: list[int] = []

    async def handle(job: PayloadJob) -> str:
        attempts.append(job.attempt)
        if job.attempt == 1:
            raise Retry
        return f"{job.labels['meter']}: {job.text}"

    address, enroll = edge.relays[0].workers_url, await edge.token(queue=QUEUE)
    async with (
        jobs_of(edge, await token(edge)) as jobs,
        consuming(address, tmp_path / "state", handle, token=enroll, ca_file=edge.ca),
    ):
        job = await jobs.submit(QUEUE, "7", labels={"meter": "m-1"}, max_attempts=2)
        status = await jobs.wait(job, timeout_s=20)
    assert attempts == [1, 2]
    assert status.attempt == 2
    assert status.outcome is not None
    assert status.outcome.result is not None
    assert (status.outcome.verdict, status.outcome.result.text) == (Verdict.SUCCEEDED, "m-1: 7")


async def test_the_last_attempt_parks_a_job(edge: Edge, tmp_path: Path) -> None:
    failed = asyncio.Event()

    async def handle(_: PayloadJob) -> None:
        failed.set()
        raise LookupError("no such meter")

    address, enroll = edge.relays[0].workers_url, await edge.token(queue=QUEUE)
    async with jobs_of(edge, await token(edge)) as jobs:
        async with consuming(address, tmp_path / "state", handle, token=enroll, ca_file=edge.ca):
            job = await jobs.submit(QUEUE, "7", max_attempts=1)
            await failed.wait()
        # The consumer has drained: its release has arrived.
        status = await jobs.status(job)
    assert status.parked == "attempt 1 of 1 ended: the handler raised LookupError: no such meter"


async def test_a_cancelled_job_stops_at_its_consumer(edge: Edge, tmp_path: Path) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def handle(_: PayloadJob) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    address, enroll = edge.relays[0].workers_url, await edge.token(queue=QUEUE)
    async with (
        jobs_of(edge, await token(edge)) as jobs,
        consuming(address, tmp_path / "state", handle, token=enroll, ca_file=edge.ca),
    ):
        job = await jobs.submit(QUEUE, b"7")
        await begun.wait()
        await jobs.cancel(job, reason="not needed")
        status = await jobs.wait(job, timeout_s=20)
    assert cancelled.is_set()
    assert status.outcome is not None
    assert status.outcome.verdict is Verdict.CANCELLED
    assert status.outcome.reason == "cancelled by producer shop: not needed"


async def test_a_plain_producer_submits_once_for_each_key(edge: Edge) -> None:
    secret = await token(edge)

    def use() -> tuple[set[str], str, str]:
        with Producer(edge.relays[0].workers_url, token=secret, ca_file=edge.ca) as jobs:
            same = {jobs.submit(QUEUE, "7", key="order-7") for _ in range(2)}
            other = jobs.submit(QUEUE, command=["true"])
            state = jobs.cancel(other).state
            assert jobs.wait(other, timeout_s=10).state is JobState.ENDED
            with pytest.raises(TimeoutError):
                jobs.wait(*same, timeout_s=0.2)
            return same, other, state

    same, other, state = await asyncio.to_thread(use)
    assert len(same) == 1
    assert other not in same
    assert state == JobState.ENDED


async def test_a_refusal_has_its_code_and_values_are_checked(edge: Edge) -> None:
    async with jobs_of(edge, await token(edge)) as jobs:
        with pytest.raises(Refused) as refused:
            await jobs.submit("another", "7")
        assert refused.value.code == "forbidden"
        with pytest.raises(ValueError, match="priority"):
            await jobs.submit(QUEUE, "7", priority=5000)
    async with jobs_of(edge, "era_unknown") as jobs:
        with pytest.raises(Refused) as refused:
            await jobs.submit(QUEUE, "7")
        assert refused.value.code == "unauthenticated"


async def test_a_producer_gives_up_after_its_patience() -> None:
    async with AsyncProducer(f"http://127.0.0.1:{free_port()}", token="era_x", patience_s=0.5) as jobs:
        with pytest.raises(NoAnswer):
            await jobs.submit(QUEUE, "7")


async def test_a_proxy_that_is_set_is_used_and_nothing_else(edge: Edge) -> None:
    """As at the agent: without its proxy, a producer does not connect directly."""
    secret, proxy = await token(edge), f"http://127.0.0.1:{free_port()}"
    address = edge.relays[0].workers_url
    async with AsyncProducer(address, token=secret, patience_s=0.2, ca_file=edge.ca, proxy_url=proxy) as jobs:
        with pytest.raises(NoAnswer, match=f"the proxy {proxy} cannot be reached"):
            await jobs.submit(QUEUE, "7")


def test_the_import_loads_nothing_heavy() -> None:
    """A name is imported when it is used: a producer needs neither a consumer nor, of course, Airflow."""
    code = (
        "import sys, edge_worker.client as c; assert 'aiohttp' not in sys.modules and 'pydantic' not in sys.modules; "
        "c.Producer; assert 'aiohttp' in sys.modules and 'edge_worker.agent' not in sys.modules; "
        "c.Consumer; assert 'airflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)
