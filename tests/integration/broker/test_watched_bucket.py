"""A watched bucket follows its stream, also when the bucket was restored from an older copy."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_broker import watched_bucket
from edge_broker.bucket import DELETE_MARK, Bucket
from edge_broker.connection.broker import Broker
from edge_broker.connection.settings import BrokerSettings
from edge_broker.layout import LayoutSettings, apply
from edge_broker.permissions import ADMIN
from edge_broker.records import MOVED_MARK_LIFE
from edge_broker.subjects import WORKERS_BUCKET, kv_stream, kv_subject
from edge_broker.watched_bucket import WatchedBucket
from support.nats.server import PASSWORDS, connected, eventually, running_server
from support.network.link import Cut, Link


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


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with running_server(tmp_path) as server, connected(server, ADMIN) as connection:
        yield connection


class Calls:
    """What a broker's API was asked for."""

    def __init__(self, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
        self._api, self._watch = broker.api, broker.watch
        self.checks = self.listings = self.continued = 0
        monkeypatch.setattr(broker, "api", self.api)
        monkeypatch.setattr(broker, "watch", self.watch)

    async def api(self, call: str, *args: Any) -> Any:
        self.checks += call.startswith("STREAM.INFO")
        return await self._api(call, *args)

    async def watch(self, bucket: str, *, after: int) -> Any:
        self.listings += not after
        self.continued += bool(after)
        return await self._watch(bucket, after=after)


async def consumers(broker: Broker) -> list[str]:
    found = await broker.api(f"CONSUMER.NAMES.{kv_stream(WORKERS_BUCKET)}")
    return found["consumers"] or []


async def test_checking_a_watch_lists_nothing_again(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the last messages of the stream are gone: marks that have expired."""
    monkeypatch.setattr(watched_bucket, "CHECK_S", 0.02)
    seen: list[str] = []
    bucket = Bucket(broker, WORKERS_BUCKET)
    for name in ("north", "south", "gone"):
        await bucket.put(name, b"1")
    await broker.api(f"STREAM.PURGE.{kv_stream(WORKERS_BUCKET)}", {"filter": kv_subject(WORKERS_BUCKET, "gone")})
    calls = Calls(broker, monkeypatch)
    watched = WatchedBucket(broker, WORKERS_BUCKET, lambda key, _: seen.append(key))
    async with asyncio.TaskGroup() as group:
        following = group.create_task(watched.run())
        await eventually(lambda: calls.checks > 20)
        await bucket.put("north", b"2")
        checked = calls.checks
        await eventually(lambda: calls.checks > checked + 20)
        following.cancel()
    assert seen == ["north", "south", "north"]
    assert calls.listings == 1


async def test_a_watch_that_lost_its_consumer_lists_again(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before nats-py notices it."""
    monkeypatch.setattr(watched_bucket, "CHECK_S", 0.1)
    seen: dict[str, bytes | None] = {}
    bucket = Bucket(broker, WORKERS_BUCKET)
    await bucket.put("north", b"1")
    watched = WatchedBucket(broker, WORKERS_BUCKET, seen.__setitem__)
    async with asyncio.TaskGroup() as group:
        following = group.create_task(watched.run())
        await watched.complete.wait()
        [consumer] = await consumers(broker)
        await broker.api(f"CONSUMER.DELETE.{kv_stream(WORKERS_BUCKET)}.{consumer}")
        await bucket.put("north", b"2")
        await eventually(lambda: seen == {"north": b"2"}, timeout_s=3)
        await eventually(watched.complete.is_set)
        following.cancel()


async def test_a_bucket_that_was_replaced_is_listed_again(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Restored from a backup while the connection stands."""
    monkeypatch.setattr(watched_bucket, "CHECK_S", 0.1)
    seen: dict[str, bytes | None] = {}
    bucket = Bucket(broker, WORKERS_BUCKET)
    for number in range(5):
        await bucket.put("north", b"%d" % number)
    await bucket.put("gone", b"x")
    watched = WatchedBucket(broker, WORKERS_BUCKET, seen.__setitem__)
    async with asyncio.TaskGroup() as group:
        following = group.create_task(watched.run())
        await watched.complete.wait()
        await broker.api(f"STREAM.DELETE.{kv_stream(WORKERS_BUCKET)}")
        await apply(broker, LayoutSettings())
        await bucket.put("north", b"restored")
        await eventually(lambda: seen == {"north": b"restored", "gone": None}, what=f"seen: {seen}", timeout_s=5)
        following.cancel()


async def test_a_watch_continues_after_a_cut_of_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It receives once what has changed, and lists nothing; after a restart the server may have lost something."""
    seen: list[tuple[str, bytes | None]] = []
    async with running_server(tmp_path) as server, connected(server, ADMIN) as writer, Link.to(server.url) as link:
        bucket = Bucket(writer, WORKERS_BUCKET)
        for name in ("north", "south", "gone"):
            await bucket.put(name, b"1")
        settings = BrokerSettings((f"nats://127.0.0.1:{link.port}",), ADMIN, PASSWORDS[ADMIN])
        async with Broker(settings) as broker, asyncio.TaskGroup() as group:
            calls = Calls(broker, monkeypatch)
            watched = WatchedBucket(broker, WORKERS_BUCKET, lambda key, value: seen.append((key, value)))
            following = group.create_task(watched.run())
            await watched.complete.wait()
            for number in (2, 3):
                seen.clear()
                await link.cut(Cut.REFUSE)
                await eventually(lambda: not broker.connected)
                await bucket.put("north", b"%d" % number)
                await writer.store(kv_subject(WORKERS_BUCKET, "gone"), b"", DELETE_MARK)
                await link.restore()
                await eventually(lambda: len(seen) == 2)
                await watched.complete.wait()
                await bucket.put("south", b"%d" % number)
                await eventually(lambda: len(seen) == 3)
                assert seen == [("north", b"%d" % number), ("gone", None), ("south", b"%d" % number)]
            assert (calls.listings, calls.continued) == (1, 2)
            await server.stop(kill=True)
            await server.start()
            await eventually(lambda: calls.listings == 2)
            await watched.complete.wait()
            following.cancel()


async def test_a_watch_that_was_cut_off_for_long_lists_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark of a deleted key may be gone by then."""
    assert timedelta(seconds=watched_bucket.CONTINUE_WITHIN_S) < MOVED_MARK_LIFE
    monkeypatch.setattr(watched_bucket, "CONTINUE_WITHIN_S", 0.0)
    seen: dict[str, bytes | None] = {}
    async with running_server(tmp_path) as server, connected(server, ADMIN) as writer, Link.to(server.url) as link:
        await Bucket(writer, WORKERS_BUCKET).put("north", b"1")
        await Bucket(writer, WORKERS_BUCKET).put("gone", b"1")
        settings = BrokerSettings((f"nats://127.0.0.1:{link.port}",), ADMIN, PASSWORDS[ADMIN])
        async with Broker(settings) as broker, asyncio.TaskGroup() as group:
            calls = Calls(broker, monkeypatch)
            watched = WatchedBucket(broker, WORKERS_BUCKET, seen.__setitem__)
            following = group.create_task(watched.run())
            await watched.complete.wait()
            await link.cut(Cut.REFUSE)
            await eventually(lambda: not broker.connected)
            stream = kv_stream(WORKERS_BUCKET)
            await writer.api(f"STREAM.PURGE.{stream}", {"filter": kv_subject(WORKERS_BUCKET, "gone")})
            await link.restore()
            await eventually(lambda: seen == {"north": b"1", "gone": None})
            assert (calls.listings, calls.continued) == (2, 0)
            following.cancel()


async def test_keys_known_from_before_are_told_as_gone(broker: Broker) -> None:
    seen: dict[str, bytes | None] = {}
    await Bucket(broker, WORKERS_BUCKET).put("north", b"1")
    watched = WatchedBucket(broker, WORKERS_BUCKET, seen.__setitem__, known=["north", "south"])
    async with asyncio.TaskGroup() as group:
        following = group.create_task(watched.run())
        await watched.complete.wait()
        following.cancel()
    assert seen == {"north": b"1", "south": None}


class SlowWatcher:
    """Shows a key at each step, as over a thin link, and stalls after some."""

    def __init__(self, keys: int, *, of: int) -> None:
        self._keys = keys
        self._of = of
        self._shown = 0

    def __aiter__(self) -> "SlowWatcher":
        return self

    async def __anext__(self) -> Any:
        if self._shown == self._of:
            self._shown += 1
            return None
        if self._shown == self._keys or self._shown > self._of:
            await asyncio.Event().wait()
        await asyncio.sleep(0.1)
        self._shown += 1
        return SimpleNamespace(key=f"key-{self._shown}", revision=self._shown, operation=None, value=b"")

    async def stop(self) -> None:
        """Nothing to end."""


async def test_a_listing_may_take_any_time_while_it_goes_on(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has stalled begins again; one that is slow does not, or it would never end."""
    monkeypatch.setattr(watched_bucket, "LIST_STALL_S", 0.5)
    watchers = [SlowWatcher(3, of=20), SlowWatcher(20, of=20)]
    listings = iter(watchers)

    async def watch(_: str, *, after: int) -> SlowWatcher:
        return next(listings)

    monkeypatch.setattr(broker, "watch", watch)
    seen: set[str] = set()
    watched = WatchedBucket(broker, WORKERS_BUCKET, lambda key, _: seen.add(key))
    async with asyncio.TaskGroup() as group:
        following = group.create_task(watched.run())
        await watched.complete.wait()
        following.cancel()
    assert len(seen) == 20
    assert next(listings, None) is None
