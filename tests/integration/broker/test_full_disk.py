"""A server whose disk is full: an outage that ends once there is room again, not a refusal."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.connection.settings import BrokerSettings
from edge_broker.subjects import RECORDS_BUCKET, WORKERS_BUCKET, kv_stream, kv_subject
from edge_relay.standalone.nats_server import find_binary
from edge_relay.stores.worker_store import WorkerStore
from support.nats.server import free_port


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """On a server with room for one MiB."""
    port, config = free_port(), tmp_path / "nats.conf"
    store = {"store_dir": str(tmp_path / "store"), "max_file_store": 1 << 20, "max_memory_store": 1 << 20}
    users = {"users": [{"user": "relay", "password": "x"}]}
    config.write_bytes(orjson.dumps({"listen": f"127.0.0.1:{port}", "jetstream": store, "authorization": users}))
    server = await asyncio.create_subprocess_exec(find_binary(), "-c", config, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with Broker(BrokerSettings((f"nats://127.0.0.1:{port}",), "relay", "x")) as connection:
            await connection.wait_connected(15)
            yield connection
    finally:
        server.kill()
        await server.wait()


async def make_bucket(broker: Broker, name: str) -> Bucket:
    """Without the layout's limits."""
    stream = kv_stream(name)
    await broker.api(f"STREAM.CREATE.{stream}", {"name": stream, "subjects": [kv_subject(name, ">")]})
    return Bucket(broker, name)


async def fill(bucket: Bucket) -> None:
    """Until nothing fits any more."""
    for number in range(20):
        await bucket.put(f"job-{number}", b"x" * (100 << 10))


async def test_a_full_disk_is_an_outage(broker: Broker) -> None:
    bucket = await make_bucket(broker, RECORDS_BUCKET)
    with pytest.raises(BrokerUnavailable, match="insufficient resources"):
        await fill(bucket)
    await broker.api(f"STREAM.PURGE.{kv_stream(RECORDS_BUCKET)}")
    await bucket.put("job", b"x")


async def test_no_relay_says_that_workers_can_be_heard_while_the_disk_is_full(broker: Broker) -> None:
    """What is stored can be read, but no poll can arrive: silent by force, nobody's jobs may be given up."""
    records, entries = await make_bucket(broker, RECORDS_BUCKET), await make_bucket(broker, WORKERS_BUCKET)
    store = WorkerStore(broker)
    await store.probe()
    revision = await entries.put("worker", b"an entry")
    with pytest.raises(BrokerUnavailable, match="insufficient resources"):
        await fill(records)
    assert (await entries.get("worker")).revision == revision
    with pytest.raises(BrokerUnavailable, match="insufficient resources"):
        await store.probe()
    await broker.api(f"STREAM.PURGE.{kv_stream(RECORDS_BUCKET)}")
    await store.probe()
    assert await store.get("-") is None
