"""A server whose disk is full: an outage that ends once there is room again, not a refusal."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from edge_relay.nats_server import find_binary
from edge_schemas.broker.bucket import Bucket
from edge_schemas.broker.connection import Broker, BrokerSettings, BrokerUnavailable
from edge_schemas.subjects import kv_stream, kv_subject
from support.broker import free_port

NAME = "edge_jobs"


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


async def test_a_full_disk_is_an_outage(broker: Broker) -> None:
    stream = kv_stream(NAME)
    await broker.api(f"STREAM.CREATE.{stream}", {"name": stream, "subjects": [kv_subject(NAME, ">")]})
    bucket = Bucket(broker, NAME)

    async def fill() -> None:
        for number in range(20):
            await bucket.put(f"job-{number}", b"x" * (100 << 10))

    with pytest.raises(BrokerUnavailable, match="insufficient resources"):
        await fill()
    await broker.api(f"STREAM.PURGE.{stream}")
    await bucket.put("job", b"x")
