"""What a week of ended jobs costs a keeper and an executor when they start, and when their connection was cut.

The centre of 100,000 jobs a day: 700,000 ended records beside 10,000 unfinished ones.
"""

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats

from bench.figures import Row, cpu_seconds, rss_bytes
from edge_broker.connection.broker import Broker
from edge_broker.jetstream.stream_info import stream_info
from edge_broker.permissions import ADMIN, EXECUTOR, KEEPER
from edge_broker.record_mover import RecordMover
from edge_broker.records import RecordStore
from edge_broker.subjects import ENDED_BUCKET, RECORDS_BUCKET, kv_stream, kv_subject
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.life.events import Finish, Start
from edge_schemas.life.model import JobRecord, new_record
from edge_schemas.life.transition import transition
from support.nats.server import PASSWORDS, connected, eventually, running_server
from support.network.link import Cut, Link
from support.relay.jobs import make_job

ENDED = 700_000
UNFINISHED = 10_000
FLUSH_EVERY = 2_000
MOVED = 5_000
CUT_S = 1.0
NOW = datetime.now(UTC)


async def measure(directory: Path) -> list[Row]:
    """Loads the records and measures."""
    async with running_server(directory / "nats") as server:
        unfinished = _running()
        size = len(_dump(_ended()))
        began = time.perf_counter()
        await load(server, ENDED_BUCKET, copies(_ended(), ENDED))
        await load(server, RECORDS_BUCKET, copies(unfinished, UNFINISHED))
        async with connected(server, ADMIN) as broker:
            held = [await _messages(broker, bucket) for bucket in (ENDED_BUCKET, RECORDS_BUCKET)]
        rows = [
            (f"loaded: ended records of {size} bytes / unfinished of {len(_dump(unfinished))} bytes", _counts(held)),
            ("loaded within / memory of nats-server then", f"{time.perf_counter() - began:.0f} s / {_rss(server)}"),
        ]
        for role in (KEEPER, EXECUTOR):
            rows += await _mirror(server, role)
        rows.append(await _move(server))
    return rows


async def load(server: NatsServer, bucket: str, records: Iterable[tuple[str, bytes]]) -> None:
    """Store records without waiting for each; the caller counts them."""
    client = await nats.connect(server.url, user=ADMIN, password=PASSWORDS[ADMIN], pending_size=64 << 20)
    try:
        for number, (key, value) in enumerate(records):
            await client.publish(kv_subject(bucket, key), value)
            if number % FLUSH_EVERY == 0:
                await client.flush(timeout=60)
        await client.flush(timeout=60)
    finally:
        await client.close()


def copies(record: JobRecord, number: int) -> Iterator[tuple[str, bytes]]:
    """Records of other jobs and task instances that are alike."""
    text = _dump(record).decode()
    assert record.task is not None
    for _ in range(number):
        job = str(uuid.uuid4())
        yield job, text.replace(record.id, job).replace(record.task.ti_id, str(uuid.uuid4())).encode()


def _running() -> JobRecord:
    return transition(new_record(make_job("bench")), Start("bench-1", 1, NOW, "a-grant"))


def _ended() -> JobRecord:
    return transition(_running(), Finish("bench-1", 0, None, NOW))


def _dump(record: JobRecord) -> bytes:
    return record.model_dump_json(exclude_none=True).encode()


async def _messages(broker: Broker, bucket: str) -> int:
    return (await stream_info(broker, kv_stream(bucket)))["state"]["messages"]


async def _mirror(server: NatsServer, role: str) -> list[Row]:
    """A process that shows when it knows all unfinished jobs: after its start, and after a cut."""
    async with Link.to(server.url) as link:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.scale.mirror", role, f"nats://127.0.0.1:{link.port}"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            rows = []
            before = cpu_seconds(server.pid)
            for what in ("start", "reconnect"):
                found: dict[str, Any] = json.loads(await asyncio.wait_for(process.stdout.readline(), 300))
                assert found["jobs"] == UNFINISHED, found
                after = cpu_seconds(server.pid)
                figure = f"{found['wall_s']:.2f} s / {found['cpu_s']:.2f} s / {after - before:.2f} s"
                rows.append((f"{role}, {what}: complete view, wall / its CPU / CPU of nats-server", figure))
                if what == "start":
                    await link.cut(Cut.RESET, lasts_s=CUT_S)
                    await eventually(lambda: link.seen.connections > 1, timeout_s=30)
                    before = cpu_seconds(server.pid)
            rows.append((f"{role}: memory of the process", f"{rss_bytes(process.pid) / 2**20:.0f} MiB"))
        finally:
            process.kill()
            await process.wait()
    return rows


async def _move(server: NatsServer) -> Row:
    """What a keeper does with each ended record."""
    await load(server, RECORDS_BUCKET, ended := list(copies(_ended(), MOVED)))
    async with connected(server, KEEPER) as broker:
        mover = RecordMover(RecordStore(broker), after_s=0)
        for job, _ in ended:
            mover.add(job)
        wall, cpu, nats_cpu = time.perf_counter(), time.process_time(), cpu_seconds(server.pid)
        await mover.move_due()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        nats_cpu = cpu_seconds(server.pid) - nats_cpu
    async with connected(server, ADMIN) as broker:
        assert await _messages(broker, ENDED_BUCKET) == ENDED + MOVED
    figure = f"{MOVED / wall:,.0f}/s / {cpu / MOVED * 1e3:.2f} ms / {nats_cpu / MOVED * 1e3:.2f} ms"
    return f"moving {MOVED:,} ended records: rate / CPU of the keeper for each / CPU of nats-server", figure


def _counts(held: list[int]) -> str:
    return " / ".join(f"{number:,}" for number in held)


def _rss(server: NatsServer) -> str:
    return f"{rss_bytes(server.pid) / 2**20:.0f} MiB"
