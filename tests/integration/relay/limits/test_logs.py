"""Logs have budgets by job, worker and queue, and a full stream does not stop a log that is still written."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge_broker.connection.broker import Broker
from edge_broker.subjects import LOGS, OFFSET_HEADER, log_subject
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import Job
from support.relay.agents import metric
from support.relay.edge import Edge, Reply, Worker, running_edge
from support.relay.jobs import make_job

KIB = 1 << 10


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    """Two replicas with small budgets: 4 MiB for a job at once, 8 for a worker, 16 for a queue."""
    async with running_edge(
        tmp_path,
        replicas=2,
        job_log_bytes_per_s=64 * KIB,
        worker_log_bytes_per_s=128 * KIB,
        queue_log_bytes_per_s=256 * KIB,
    ) as running:
        yield running


async def fill(edge: Edge, job: Job, worker: Worker, most: int, *, size: int = 250 * KIB) -> tuple[int, Reply]:
    """Upload until the relay asks for patience, or enough was stored; returns how much was stored."""
    offset = 0
    while True:
        reply = await edge.put_log(job, worker, offset, b"x" * size)
        if reply.status != 200 or offset >= most:
            return offset, reply
        offset = reply.json["offset"]


async def offsets(broker: Broker, job: Job) -> list[int]:
    """Where the stored chunks of a log begin."""
    assert job.task is not None
    subject, found = log_subject(job.task.ti_id, job.task.try_number, job.id), []
    state = (await broker.api(f"STREAM.INFO.{LOGS}"))["state"]
    client = broker._supervisor.require_client().jetstream()
    for sequence in range(state["first_seq"], state["last_seq"] + 1):
        message = await client.get_msg(LOGS, sequence)
        if message.subject == subject:
            found.append(int((message.headers or {})[OFFSET_HEADER]))
    return found


def asks_for_patience(reply: Reply) -> bool:
    return (reply.status, reply.code) == (429, "rate_limited") and int(reply.headers["Retry-After"]) >= 1


async def test_chunks_of_one_byte(edge: Edge) -> None:
    """A reader pays for each chunk: a flood of small ones is stopped early, and nothing of it is lost."""
    worker, other = await edge.worker(), await edge.worker()
    job = await edge.job(worker)
    stored, reply = await fill(edge, job, worker, 1000, size=1)
    assert 16 <= stored < 40
    assert asks_for_patience(reply)
    assert metric(edge, "edge_relay_limited_total", {"limit": "log_of_job"}) == 1
    second = await edge.job(worker)
    assert (await edge.put_log(second, worker, 0, b"x")).status == 200
    assert (await edge.put_log(await edge.job(other), other, 0, b"x")).status == 200


async def test_a_refused_chunk_is_not_read(edge: Edge) -> None:
    """Not even its body; and the answer to a later try says where the log ends."""
    worker = await edge.worker()
    job = await edge.job(worker)
    stored, _ = await fill(edge, job, worker, 1000, size=1)
    path = f"{routes.JOB_LOG.format(job=job.id)}?offset={stored}"
    reply = await edge.call(
        "PUT", path, worker.secret, body=b"no gzip", headers={"Content-Type": "application/octet-stream"}
    )
    assert asks_for_patience(reply)
    assert (await edge.put_log(job, worker, stored, b"more", replica=1)).json == {"offset": stored + 4}


async def test_one_worker_has_its_budget(edge: Edge) -> None:
    """However many jobs it has; another worker of the same queue still has its own."""
    worker, other = await edge.worker(), await edge.worker()
    fills = [await fill(edge, await edge.job(worker), worker, 5 << 20) for _ in range(4)]
    assert asks_for_patience(fills[-1][1])
    total = sum(stored for stored, _ in fills)
    assert 8 << 20 <= total < 10 << 20
    assert metric(edge, "edge_relay_limited_total", {"limit": "logs_of_worker"}) >= 1
    assert (await edge.put_log(await edge.job(other), other, 0, b"x")).status == 200


async def test_one_queue_has_its_budget(edge: Edge) -> None:
    """However many workers it has; another queue has its own."""
    workers = [await edge.worker() for _ in range(8)]
    fills = [await fill(edge, await edge.job(worker), worker, 5 << 20) for worker in workers]
    assert asks_for_patience(fills[-1][1])
    total = sum(stored for stored, _ in fills)
    assert 16 << 20 <= total < 20 << 20
    assert metric(edge, "edge_relay_limited_total", {"limit": "logs_of_queue"}) >= 1
    other = await edge.worker(queue="other")
    job = await edge.job(other, make_job(queue="other"))
    assert (await edge.put_log(job, other, 0, b"x")).status == 200


@pytest.mark.parametrize("offset", [1, 10**9])
async def test_wrong_offsets_cost_few_reads(edge: Edge, offset: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each one makes the relay read the newest chunk, so they are limited like chunks."""
    worker = await edge.worker()
    job = await edge.job(worker)
    assert (await edge.put_log(job, worker, 0, b"x" * 200_000)).status == 200
    reads = 0
    store = edge.relays[0].parts.logs._logs
    read_tail = store._read_tail

    async def counted(*arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read_tail(*arguments)

    monkeypatch.setattr(store, "_read_tail", counted)
    replies = [await edge.put_log(job, worker, offset, b"x") for _ in range(60)]
    assert asks_for_patience(replies[-1])
    assert reads < 12


@pytest.mark.parametrize("replica", [0, 1], ids=["the same replica", "another replica"])
async def test_the_age_limit_removes_a_log_that_is_still_written(edge: Edge, replica: int) -> None:
    """With all that is as old. The log continues where it was, with a gap, and nothing is uploaded again."""
    worker = await edge.worker()
    job, other = await edge.job(worker), await edge.job(worker)
    assert (await edge.put_log(job, worker, 0, b"0123456789")).json == {"offset": 10}
    assert (await edge.put_log(other, worker, 0, b"newer")).status == 200
    await edge.broker.api(f"STREAM.PURGE.{LOGS}", {"seq": 2})
    assert await offsets(edge.broker, job) == []
    # A chunk without bytes asks for the position, as an agent does after a doubt.
    assert (await edge.put_log(job, worker, 10, b"", replica=replica)).json == {"offset": 10}
    assert (await edge.put_log(job, worker, 10, b"abc", replica=replica)).json == {"offset": 13}
    assert (await edge.put_log(job, worker, 13, b"def", replica=0)).json == {"offset": 16}
    assert await offsets(edge.broker, job) == [10, 13]
    assert (await edge.put_log(job, worker, 17, b"x")).code == "offset_mismatch"


async def test_a_log_that_was_never_stored_is_no_removed_one(edge: Edge) -> None:
    """Where nothing was removed since the job began, bytes that are missing are asked for."""
    worker, other = await edge.worker(), await edge.worker()
    assert (await edge.put_log(await edge.job(other), other, 0, b"older than the job")).status == 200
    job = await edge.job(worker)
    reply = await edge.put_log(job, worker, 10, b"x")
    assert (reply.code, reply.json["expected_offset"]) == ("offset_mismatch", 0)
