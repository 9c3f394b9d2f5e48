"""Pieces, manifests and entries of published bundles in a real nats-server."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_broker import layout
from edge_broker.bundles import store as store_module
from edge_broker.bundles.entries import CurrentVersion, KnownVersion, PublishedVersion
from edge_broker.bundles.mirror import BundleMirror
from edge_broker.bundles.published import PublishedBundles
from edge_broker.bundles.store import BundleStore
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, StreamFull
from edge_broker.permissions import ADMIN, EXECUTOR, KEEPER, PUBLISHER, READER, RELAY
from edge_broker.subjects import BUNDLES, BUNDLES_BUCKET, kv_subject
from edge_schemas.bundles.pieces import PIECE_BYTES, pack_piece, piece_digest
from edge_service.task_cleanup import cancel_and_wait
from support.nats.server import connected, eventually, running_server

AT = datetime(2026, 11, 30, tzinfo=UTC)


def pieces(count: int, size: int = 100) -> dict[str, bytes]:
    """Frames of random pieces by digest."""
    made = (os.urandom(size) for _ in range(count))
    return {piece_digest(data): pack_piece(data) for data in made}


def published(name: str, digest: str) -> PublishedVersion:
    """An entry."""
    return PublishedVersion(name=name, digest=digest, files=1, size=2, stored_bytes=3, at=AT, by="a test")


async def put(broker: Broker, frames: dict[str, bytes]) -> None:
    """Store all."""
    store = BundleStore(broker)
    for digest, frame in frames.items():
        assert await store.put_piece(digest, frame)


async def test_what_is_stored_is_read_by_every_reader(tmp_path: Path) -> None:
    """More pieces than the server answers at once, and more bytes."""
    small, large = pieces(1100), pieces(20, PIECE_BYTES)
    every, absent = small | large, list(pieces(3))
    async with running_server(tmp_path) as server:
        async with connected(server, PUBLISHER) as publisher:
            await put(publisher, every)
            store = BundleStore(publisher)
            assert await store.missing([*every, *absent]) == absent
            assert await store.missing([*list(every)[:10], *absent]) == absent
            assert not await store.put_piece(*next(iter(every.items())))
            assert await store.put_manifest("a" * 64, b"manifest")
            assert not await store.put_manifest("a" * 64, b"manifest")
            assert await store.manifests() == ["a" * 64]
        for role in (RELAY, READER, KEEPER):
            async with connected(server, role) as reader:
                store = BundleStore(reader)
                assert await store.frames([*every, *absent]) == every
                assert await store.frames([]) == {}
                assert await store.manifest("a" * 64) == b"manifest"
                assert await store.manifest("b" * 64) is None


async def test_a_removed_piece_is_gone_and_can_be_stored_again_at_once(tmp_path: Path) -> None:
    [(digest, frame)] = pieces(1).items()
    async with running_server(tmp_path) as server, connected(server, KEEPER) as keeper:
        store = BundleStore(keeper)
        assert await store.put_piece(digest, frame)
        await store.put_manifest(digest, b"m")
        await store.remove_piece(digest)
        await store.remove_manifest(digest)
        assert (await store.missing([digest]), await store.pieces(), await store.manifests()) == ([digest], [], [])
        assert (await store.frames([digest]), await store.manifest(digest)) == ({}, None)
        assert await store.put_piece(digest, frame)
        assert await store.frames([digest]) == {digest: frame}


async def test_only_keeper_and_publisher_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_broker.connection.requests.REQUEST_TIMEOUT_S", 0.3)
    async with running_server(tmp_path) as server, connected(server, ADMIN) as admin:
        for role in (RELAY, EXECUTOR, READER):
            async with connected(server, role) as broker:
                for subject in (
                    "edge.bundles.piece.x",
                    "edge.bundles.manifest.x",
                    kv_subject(BUNDLES_BUCKET, "x.current"),
                ):
                    with pytest.raises(BrokerUnavailable):
                        await broker.request(subject, b"x", timeout_s=0.3)
        async with connected(server, PUBLISHER) as publisher:
            with pytest.raises(BrokerUnavailable):
                await publisher.request(f"$JS.API.STREAM.PURGE.{BUNDLES}", b"", timeout_s=0.3)
            with pytest.raises(BrokerUnavailable):
                await publisher.request("edge.jobs.-.q.x", b"x", timeout_s=0.3)
        assert (await admin.api(f"STREAM.INFO.{BUNDLES}"))["state"]["messages"] == 0


async def test_a_full_store_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    kept = pieces(3, PIECE_BYTES)
    async with running_server(tmp_path) as server, connected(server, ADMIN) as admin:
        await layout.apply(admin, layout.LayoutSettings(bundles_max_bytes=2 << 20))
        async with connected(server, PUBLISHER) as publisher:
            await put(publisher, kept)
            store = BundleStore(publisher)
            with pytest.raises(StreamFull):
                await put(publisher, pieces(3, PIECE_BYTES))
            assert len(await store.frames(list(kept))) == 3


async def test_without_the_stream_the_error_names_the_command(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, connected(server, ADMIN) as admin:
        await admin.api(f"STREAM.DELETE.{BUNDLES}")
        store = BundleStore(admin)
        for read in (store.manifest("a"), store.missing(["a"])):
            with pytest.raises(BrokerUnavailable, match="streams apply"):
                await read


NAMES = ("dags", "dags.sub", "a b", "Größe/…", "-", "*", ">", "dags.published", "x" * 250, "日" * 250, "_5F", "a\nb")


async def test_entries_of_bundles_with_any_names(tmp_path: Path) -> None:
    """Each bundle has its own entries, whatever its name is."""
    digests = {name: f"{number:064x}" for number, name in enumerate(NAMES)}
    async with running_server(tmp_path) as server, connected(server, PUBLISHER) as publisher:
        bundles = PublishedBundles(publisher)
        for name, digest in digests.items():
            await bundles.put(published(name, digest))
            await bundles.put(CurrentVersion(name=name, digest=digest, at=AT, by="a test"))
            await bundles.put(KnownVersion(name=name, version=f"v {name}", digest=digest))
        assert {(one.name, one.digest) for one in await bundles.versions()} == set(digests.items())
        for name, digest in digests.items():
            assert await bundles.versions(name) == [published(name, digest)]
            assert (current := await bundles.current(name)) is not None
            assert current.digest == digest
            assert await bundles.digest_of(name, f"v {name}") == digest
            assert await bundles.digest_of(name, digest) == digest
            assert await bundles.digest_of(name, "other > *") is None
            assert [one.version for one in await bundles.known(name)] == [f"v {name}"]


async def test_a_mirror_follows_the_entries(tmp_path: Path) -> None:
    one, two = "1" * 64, "2" * 64
    async with running_server(tmp_path) as server, connected(server, KEEPER) as keeper:
        bundles = PublishedBundles(keeper)
        await bundles.put(published("dags", one))
        await bundles.put(KnownVersion(name="dags", version="c0ffee", digest=one))
        async with connected(server, EXECUTOR) as executor:
            mirror = BundleMirror()
            running = asyncio.create_task(mirror.run(executor))
            try:
                await eventually(lambda: mirror.is_complete)
                assert mirror.versions() == [published("dags", one)]
                assert (mirror.current("dags"), mirror.find("dags", two)) == (None, None)
                assert mirror.find("dags", "c0ffee") == mirror.find("dags", one) == published("dags", one)
                await bundles.put(published("dags", two))
                await bundles.put(CurrentVersion(name="dags", digest=two, at=AT, by="a test"))
                await eventually(lambda: mirror.current("dags") == published("dags", two))
                await bundles.remove(published("dags", one))
                await eventually(lambda: mirror.versions() == [published("dags", two)])
                assert mirror.find("dags", "c0ffee") is None
                await bundles.remove(CurrentVersion(name="dags", digest=two, at=AT, by="a test"))
                await bundles.remove(published("dags", two))
                await eventually(lambda: (mirror.versions(), mirror.current("dags")) == ([], None))
            finally:
                await cancel_and_wait([running])
        assert (await bundles.versions(), await bundles.current("dags")) == ([], None)


async def test_an_entry_that_cannot_be_read_harms_only_itself(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, connected(server, KEEPER) as keeper:
        bundles = PublishedBundles(keeper)
        await keeper.store(kv_subject(BUNDLES_BUCKET, f"dags.published.{'1' * 64}"), b"{}")
        await keeper.store(kv_subject(BUNDLES_BUCKET, "lock"), b"of a later version")
        await bundles.put(published("dags", "2" * 64))
        assert await bundles.versions() == [published("dags", "2" * 64)]
        mirror = BundleMirror()
        mirror.apply(f"dags.published.{'1' * 64}", b"{}")
        mirror.apply("lock", b"of a later version")
        assert mirror.versions() == []


def test_a_read_asks_for_less_than_the_server_refuses() -> None:
    from edge_broker.jetstream.direct_get import MAX_SUBJECTS

    assert store_module.BATCH_PIECES <= MAX_SUBJECTS
