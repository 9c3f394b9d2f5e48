"""Logs: every byte once and in order, through whichever replica, whatever is repeated."""

import asyncio
import gzip
import json
import os
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_broker.connection.broker import Broker
from edge_broker.subjects import LOGS, OFFSET_HEADER, log_subject
from edge_schemas.life.events import Finish, GiveUp, Start
from edge_schemas.wire import routes
from edge_schemas.wire.job_calls import MAX_CHUNK_BYTES, MAX_CHUNK_DECODED_BYTES, MAX_JOB_LOG_BYTES
from edge_schemas.wire.jobs import Job
from support.nats.server import eventually
from support.relay.edge import Edge, running_edge
from support.relay.jobs import make_auxiliary_job


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Edge]:
    """Two replicas before one NATS."""
    async with running_edge(tmp_path, replicas=2) as running:
        yield running


async def stored(broker: Broker, job: Job) -> bytes:
    """The log as a reader puts it together: chunk after chunk, each where the one before ends."""
    owner = (job.task.ti_id, job.task.try_number) if job.task else (job.id, 0)
    subject, log = log_subject(*owner, job.id), bytearray()
    state = (await broker.api(f"STREAM.INFO.{LOGS}"))["state"]
    client = broker._supervisor.require_client().jetstream()
    for sequence in range(1, state["last_seq"] + 1):
        message = await client.get_msg(LOGS, sequence)
        if message.subject == subject:
            assert int((message.headers or {})[OFFSET_HEADER]) == len(log)
            log += message.data or b""
    return bytes(log)


async def test_a_log_arrives_byte_for_byte(edge: Edge) -> None:
    worker = await edge.worker()
    job = await edge.job(worker)
    text = os.urandom(MAX_CHUNK_BYTES) + b"line\n" * 90_000
    first = await edge.put_log(job, worker, 0, text[:MAX_CHUNK_BYTES])
    assert first.json == {"offset": MAX_CHUNK_BYTES}
    rest = text[MAX_CHUNK_BYTES:]
    assert len(rest) > MAX_CHUNK_BYTES
    second = await edge.put_log(job, worker, MAX_CHUNK_BYTES, gzip.compress(rest), headers={"Content-Encoding": "gzip"})
    assert second.json == {"offset": len(text)}
    assert await stored(edge.broker, job) == text


async def test_an_auxiliary_job_has_a_log_too(edge: Edge) -> None:
    """It has no task instance and no tries: its own id and try 0 stand for them."""
    worker = await edge.worker()
    auxiliary = await edge.job(worker, make_auxiliary_job())
    assert (await edge.put_log(auxiliary, worker, 0, b"called back\n")).json == {"offset": 12}
    assert await stored(edge.broker, auxiliary) == b"called back\n"


async def test_overlap_is_trimmed_and_a_gap_refused(edge: Edge) -> None:
    worker = await edge.worker()
    job = await edge.job(worker)
    assert (await edge.put_log(job, worker, 0, b"0123456789")).json == {"offset": 10}
    assert (await edge.put_log(job, worker, 5, b"56789abc")).json == {"offset": 13}
    assert (await edge.put_log(job, worker, 2, b"234")).json == {"offset": 13}
    assert (await edge.put_log(job, worker, 13, b"")).json == {"offset": 13}
    gap = await edge.put_log(job, worker, 14, b"x")
    assert (gap.status, gap.code, gap.json["expected_offset"]) == (409, "offset_mismatch", 13)
    assert await stored(edge.broker, job) == b"0123456789abc"


async def test_two_replicas_and_repeats_give_every_byte_once(pair: Edge) -> None:
    """Chunks of any cut, sent to either replica, several times and at once."""
    worker = await pair.worker()
    job = await pair.job(worker)
    text, seed = os.urandom(40_000), random.Random(7)

    async def send(offset: int, replica: int) -> int:
        reply = await pair.put_log(job, worker, offset, text[offset : offset + seed.randint(1, 3000)], replica=replica)
        if reply.code == "offset_mismatch":
            return int(reply.json["expected_offset"])
        assert reply.status == 200, reply.body
        return int(reply.json["offset"])

    async def upload(first_replica: int) -> None:
        offset, turn = 0, first_replica
        while offset < len(text):
            turn += 1
            ends = await asyncio.gather(send(offset, turn % 2), send(max(0, offset - 100), (turn + 1) % 2))
            offset = max(ends)

    await asyncio.gather(upload(0), upload(1))
    assert await stored(pair.broker, job) == text


async def test_a_log_continues_after_the_job_has_ended(edge: Edge) -> None:
    worker = await edge.worker()
    job = await edge.job(worker)
    await edge.put_log(job, worker, 0, b"before\n")
    await edge.records.change(job.id, Finish(worker.name, 0, None, datetime.now(UTC)))
    assert (await edge.put_log(job, worker, 7, b"after\n")).json == {"offset": 13}
    assert await stored(edge.broker, job) == b"before\nafter\n"


async def test_the_log_of_a_second_holder_follows_the_first_ones(pair: Edge) -> None:
    """A job given up before user code ran starts again elsewhere, with a log file that begins at 0."""
    one, two = await pair.worker(uses=1), await pair.worker(uses=1)
    job = await pair.job(one)
    await pair.put_log(job, one, 0, b"first holder\nis cut off")
    await pair.records.change(job.id, GiveUp("silent", datetime.now(UTC)))
    started = datetime.now(UTC)
    await pair.records.change(job.id, Start(two.name, 1, started))
    assert (await pair.put_log(job, two, 0, b"", replica=1)).json == {"offset": 0}, "nothing marks an empty file"
    assert (await pair.put_log(job, two, 0, b"second ", replica=1)).json == {"offset": 7}
    assert (await pair.put_log(job, two, 7, b"holder\n", replica=0)).json == {"offset": 14}
    # The first one's replica has it in memory still; once the log is another's, the record is asked.
    assert (await pair.put_log(job, one, 13, b"too late\n", replica=0)).code == "not_holder"
    assert (await pair.put_log(job, two, 0, b"second holder\n", replica=1)).json == {"offset": 14}, "a repeat"
    lines = (await stored(pair.broker, job)).splitlines()
    assert lines[:2] + lines[3:] == [b"first holder", b"is cut off", b"second holder"]
    assert json.loads(lines[2]) == {
        "timestamp": started.isoformat(),
        "level": "info",
        "event": f"Attempt 2 begins here: worker {two.name} has started the job",
        "logger": "edge_relay",
    }


async def test_a_crash_of_the_broker_loses_and_doubles_nothing(edge: Edge) -> None:
    worker = await edge.worker()
    job = await edge.job(worker)
    await edge.put_log(job, worker, 0, b"before\n")
    await edge.server.stop(kill=True)
    assert (await edge.put_log(job, worker, 7, b"after\n")).code == "broker_unavailable"
    await edge.server.start()

    async def again() -> bool:
        return (await edge.put_log(job, worker, 7, b"after\n")).status == 200

    await eventually(again, what="the relay has the broker back")
    await edge.broker.wait_connected(10)
    assert await stored(edge.broker, job) == b"before\nafter\n"


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "invalid_request"),
        ("?offset=", 400, "invalid_request"),
        ("?offset=-1", 400, "invalid_request"),
        ("?offset=01", 400, "invalid_request"),
        ("?offset=1e3", 400, "invalid_request"),
        ("?offset=%D9%A1", 400, "invalid_request"),
        ("?offset=0&offset=0", 400, "invalid_request"),
        ("?offset=0&more=1", 400, "invalid_request"),
        ("?offset=" + "9" * 400, 400, "invalid_request"),
        ("?offset=1", 409, "offset_mismatch"),
        (f"?offset={MAX_JOB_LOG_BYTES}", 409, "offset_mismatch"),
    ],
)
async def test_wrong_offsets(edge: Edge, query: str, status: int, code: str) -> None:
    worker = await edge.worker()
    job = await edge.job(worker)
    reply = await edge.call(
        "PUT",
        routes.JOB_LOG.format(job=job.id) + query,
        worker.secret,
        body=b"x",
        headers={"Content-Type": "application/octet-stream"},
    )
    assert (reply.status, reply.code) == (status, code)
    assert await stored(edge.broker, job) == b""


async def test_wrong_bodies(edge: Edge) -> None:
    worker = await edge.worker()
    job = await edge.job(worker)
    bomb = gzip.compress(bytes(MAX_CHUNK_DECODED_BYTES + 1))
    for body, headers, expected in [
        (bytes(MAX_CHUNK_BYTES + 1), {}, (413, "payload_too_large")),
        (bomb, {"Content-Encoding": "gzip"}, (413, "payload_too_large")),
        (b"no gzip", {"Content-Encoding": "gzip"}, (400, "invalid_request")),
        (b"x", {"Content-Encoding": "br"}, (415, "unsupported_media_type")),
        (b"x", {"Content-Type": "text/html"}, (415, "unsupported_media_type")),
    ]:
        reply = await edge.put_log(job, worker, 0, body, headers=headers)
        assert (reply.status, reply.code) == expected
    assert await stored(edge.broker, job) == b""


async def test_a_log_has_an_end(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_relay.stores.log_store.MAX_JOB_LOG_BYTES", 10)
    worker = await edge.worker()
    job = await edge.job(worker)
    assert (await edge.put_log(job, worker, 0, b"0123456789")).status == 200
    assert (await edge.put_log(job, worker, 0, b"0123456789")).status == 200
    assert (await edge.put_log(job, worker, 10, b"x")).code == "payload_too_large"
