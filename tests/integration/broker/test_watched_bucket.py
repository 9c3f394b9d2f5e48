"""A watched bucket follows its stream, also when the bucket was restored from an older copy."""

import asyncio
from pathlib import Path

from edge_broker.bucket import DELETE_MARK, Bucket
from edge_broker.layout import LayoutSettings, apply
from edge_broker.permissions import ADMIN
from edge_broker.subjects import WORKERS_BUCKET, kv_stream, kv_subject
from edge_broker.watched_bucket import WatchedBucket
from support.nats.server import connected, eventually, running_server


async def test_a_restored_bucket_is_read_although_its_revisions_are_lower(tmp_path: Path) -> None:
    seen: dict[str, bytes | None] = {}
    async with running_server(tmp_path) as server, connected(server, ADMIN) as broker:
        bucket = Bucket(broker, WORKERS_BUCKET)
        for number in range(5):
            await bucket.put("north", b"%d" % number)
        await bucket.put("gone", b"x")
        watched = WatchedBucket(broker, WORKERS_BUCKET, seen.__setitem__)
        async with asyncio.TaskGroup() as group:
            following = group.create_task(watched.run())
            await eventually(lambda: seen == {"north": b"4", "gone": b"x"})
            await broker.api(f"STREAM.DELETE.{kv_stream(WORKERS_BUCKET)}")
            await apply(broker, LayoutSettings())
            await bucket.put("north", b"restored")
            await server.stop(kill=True)
            await server.start()
            await eventually(lambda: seen == {"north": b"restored", "gone": None}, what=f"seen: {seen}")
            following.cancel()


async def test_a_key_that_went_before_it_was_listed_is_told_as_gone(tmp_path: Path) -> None:
    """Who read the key by himself in between would keep it for ever otherwise: a deleted credential, for one."""
    seen: dict[str, bytes | None] = {}
    async with running_server(tmp_path) as server, connected(server, ADMIN) as broker:
        await Bucket(broker, WORKERS_BUCKET).put("north", b"read by itself")
        await broker.store(kv_subject(WORKERS_BUCKET, "north"), b"", DELETE_MARK)
        watched = WatchedBucket(broker, WORKERS_BUCKET, seen.__setitem__)
        async with asyncio.TaskGroup() as group:
            following = group.create_task(watched.run())
            await watched.complete.wait()
            following.cancel()
    assert seen == {"north": None}
