"""A full stream of logs: the oldest bytes of ended jobs make room, and no byte of a job that has not ended is lost."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_broker.subjects import LOGS, log_subject
from edge_schemas.life.events import Finish
from edge_schemas.wire.jobs import Job
from support.nats.server import eventually
from support.relay.agents import metric
from support.relay.edge import Edge, Reply, Worker, running_edge
from support.relay.jobs import make_job

MIB = 1 << 20
ROOM = 32 * MIB
CHUNK = 250 << 10


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    """Two replicas before a small stream, with rates that are not reached."""
    async with running_edge(
        tmp_path,
        replicas=2,
        job_log_bytes_per_s=64 * MIB,
        worker_log_bytes_per_s=64 * MIB,
        queue_log_bytes_per_s=64 * MIB,
    ) as running:
        config = (await running.broker.api(f"STREAM.INFO.{LOGS}"))["config"]
        await running.broker.api(f"STREAM.UPDATE.{LOGS}", {**config, "max_bytes": ROOM, "compression": "none"})
        for relay in running.relays:
            await relay.parts.log_space.check()  # until then, it counts on the room that there was before
        yield running


class Writer:
    """A worker with one job, whose log it writes."""

    def __init__(self, edge: Edge, worker: Worker, job: Job) -> None:
        self._edge, self.worker, self.job = edge, worker, job
        self.offset = 0

    @classmethod
    async def of(cls, edge: Edge, queue: str = "default") -> "Writer":
        worker = await edge.worker(queue=queue)
        return cls(edge, worker, await edge.job(worker, make_job(queue=queue)))

    async def write(self, data: bytes, *, replica: int = 0) -> Reply:
        reply = await self._edge.put_log(self.job, self.worker, self.offset, data, replica=replica)
        if reply.status == 200:
            self.offset = reply.json["offset"]
        return reply

    async def write_until_refused(self, most: int) -> Reply:
        """Chunk after chunk, to each replica in turn."""
        while True:
            reply = await self.write(b"x" * CHUNK, replica=self.offset % 2)
            if reply.status != 200 or self.offset >= most:
                return reply

    async def write_all(self, data: bytes, *, replica: int = 0) -> None:
        """Repeat what is refused, as an agent does, without its pauses."""

        async def is_stored() -> bool:
            return (await self.write(data, replica=replica)).status == 200

        await eventually(is_stored, timeout_s=20, what="the chunk is stored")

    async def end(self) -> None:
        await self._edge.records.change(self.job.id, Finish(self.worker.name, 0, None, datetime.now(UTC)))

    async def stored(self) -> int:
        """How many messages of the log there are."""
        assert self.job.task is not None
        subject = log_subject(self.job.task.ti_id, self.job.task.try_number, self.job.id)
        info = await self._edge.broker.api(f"STREAM.INFO.{LOGS}", {"subjects_filter": subject})
        return int((info["state"].get("subjects") or {}).get(subject, 0))


async def used(edge: Edge) -> int:
    return int((await edge.broker.api(f"STREAM.INFO.{LOGS}"))["state"]["bytes"])


def refused(edge: Edge) -> float:
    return sum(metric(edge, "edge_relay_limited_total", {"limit": "log_space"}, replica=one) for one in (0, 1))


async def test_the_oldest_bytes_of_ended_jobs_make_room_for_a_noisy_one(edge: Edge) -> None:
    """More than the stream holds is written by jobs that end, while a quiet one continues."""
    quiet = await Writer.of(edge)
    assert (await quiet.write(b"the first line\n")).status == 200
    noisy = []
    for _ in range(12):
        writer = await Writer.of(edge)
        while writer.offset < 4 * MIB:
            await writer.write_all(b"x" * CHUNK)
        await writer.end()
        noisy.append(writer)
    await quiet.write_all(b"the last line\n")
    assert await quiet.stored() == 2, "what a running job has written stays"
    assert await noisy[0].stored() == 0, "the oldest log is gone"
    assert await noisy[-1].stored() > 0, "the newest one is not"
    assert await used(edge) <= ROOM
    # What the worker still has of a removed log is stored behind it, and not from its beginning on.
    assert (await noisy[0].write(b"the rest\n")).json == {"offset": 4 * MIB + 9 + CHUNK - 4 * MIB % CHUNK}


async def test_of_running_jobs_only_the_noisy_queue_is_refused(edge: Edge) -> None:
    quiet, ended, noisy = await Writer.of(edge), await Writer.of(edge), await Writer.of(edge, "noisy")
    assert (await quiet.write(b"the first line\n")).status == 200
    await ended.write_all(b"x" * CHUNK)
    await ended.end()

    async def is_limited() -> bool:
        reply = await noisy.write_until_refused(4 * ROOM)
        assert (reply.status, reply.code) == (429, "rate_limited")
        assert int(reply.headers["Retry-After"]) >= 1
        return all(relay.parts.log_space.exhausted for relay in edge.relays)

    await eventually(is_limited, timeout_s=20, what="both replicas know that only running jobs are left")
    assert refused(edge) > 0
    kept = noisy.offset
    assert await ended.stored() == 0
    assert await quiet.stored() == 1
    for replica in (0, 1):
        # At the replica's next look at the stream: until then it counts more as stored than there is.
        await quiet.write_all(b"another line\n", replica=replica)
        assert (await noisy.write(b"x", replica=replica)).status == 429
    # A queue that comes later finds room as well.
    late = await Writer.of(edge, "late")
    await late.write_all(b"x" * CHUNK)
    await noisy.end()
    more = await Writer.of(edge, "noisy")
    await more.write_all(b"x" * CHUNK)
    assert await quiet.stored() == 3
    assert noisy.offset == kept
