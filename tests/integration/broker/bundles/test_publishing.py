"""A version becomes visible complete or not at all, whoever publishes it and whatever happens meanwhile."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from edge_broker import layout
from edge_broker.bundles.published import PublishedBundles
from edge_broker.bundles.publishing import BundlePublisher, PublishRefused, Wanted
from edge_broker.bundles.store import BundleStore
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.permissions import ADMIN, PUBLISHER, RELAY
from edge_broker.subjects import BUNDLES, BUNDLES_BUCKET, kv_stream
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.bundles.manifest import BundleFile, Manifest, manifest_of, open_manifest
from edge_schemas.bundles.pieces import PIECE_BYTES, open_piece, piece_digest
from support.nats.server import connected, eventually, running_server


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A nats-server."""
    async with running_server(tmp_path) as running:
        yield running


class Tree:
    """A bundle in memory.

    Attributes:
        reads: How many pieces were read.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.reads = 0

    @property
    def pieces(self) -> dict[str, bytes]:
        """By digest."""
        parts = (
            data[start : start + PIECE_BYTES]
            for data in self.files.values()
            for start in range(0, len(data), PIECE_BYTES)
        )
        return {piece_digest(part): part for part in parts}

    @property
    def manifest(self) -> Manifest:
        """Of the files."""
        return manifest_of(
            BundleFile(
                path,
                executable=False,
                size=len(data),
                pieces=tuple(
                    piece_digest(data[start : start + PIECE_BYTES]) for start in range(0, len(data), PIECE_BYTES)
                ),
            )
            for path, data in self.files.items()
        )

    def read(self, digest: str) -> bytes:
        """A piece."""
        self.reads += 1
        return self.pieces[digest]


def some_tree(files: int = 20) -> Tree:
    """Small files, a large one, an empty one, and the same content twice."""
    made = {f"dir/f{number}.py": os.urandom(200) for number in range(files)}
    return Tree({**made, "large.bin": os.urandom(PIECE_BYTES * 2 + 1), "empty": b"", "same": made["dir/f0.py"]})


async def publish(broker: Broker, tree: Tree, name: str = "dags", **more: object) -> bool:
    """Publish; returns whether the version is new."""
    wanted = Wanted(name, tree.manifest, **more)  # type: ignore[arg-type]  # any of its fields
    return (await BundlePublisher(broker, "a test").publish(wanted, tree.read)).is_new


async def fetched(broker: Broker, digest: str) -> dict[str, bytes]:
    """All files of a version, as a worker gets them."""
    store = BundleStore(broker)
    frame = await store.manifest(digest)
    assert frame is not None
    manifest = open_manifest(frame, digest)
    frames = await store.frames(list(manifest.pieces))
    pieces = {piece: open_piece(frames[piece], piece, size) for piece, size in manifest.pieces.items()}
    return {file.path: b"".join(pieces[piece] for piece in file.pieces) for file in manifest.files}


async def stored(broker: Broker) -> int:
    """How many messages were ever stored for bundles, without those of the lock."""
    bundles = PublishedBundles(broker)
    entries = await bundles.snapshot()
    last = (await broker.api(f"STREAM.INFO.{BUNDLES}"))["state"]["last_seq"]
    return int(last) + len(entries.versions) + len(entries.current) + len(entries.known)


async def test_what_was_published_is_what_a_worker_gets(server: NatsServer) -> None:
    tree = some_tree()
    async with connected(server, PUBLISHER) as broker, connected(server, RELAY) as relay:
        assert await publish(broker, tree, version="c0ffee", requirements={"*": "dir/f0.py"})
        digest = tree.manifest.digest
        assert await fetched(relay, digest) == tree.files
        bundles = PublishedBundles(relay)
        entry, current = await bundles.get("dags", digest), await bundles.current("dags")
        assert entry is not None
        assert current is not None
        assert (entry.files, entry.size, entry.by) == (23, sum(map(len, tree.files.values())), "a test")
        assert entry.requirements_for("any") == "dir/f0.py"
        assert current.digest == await bundles.digest_of("dags", "c0ffee") == digest


async def test_an_unchanged_tree_stores_nothing(server: NatsServer) -> None:
    tree = some_tree()
    async with connected(server, PUBLISHER) as broker:
        publisher, wanted = BundlePublisher(broker, "a test"), Wanted("dags", tree.manifest, "v1")
        assert not await publisher.is_published(wanted)
        assert (await publisher.publish(wanted, tree.read)).new_pieces == 23
        before, tree.reads = await stored(broker), 0
        entry = await PublishedBundles(broker).get("dags", tree.manifest.digest)
        again = await publisher.publish(wanted, tree.read)
        assert (again.is_new, again.new_pieces, again.new_bytes, tree.reads) == (False, 0, 0, 0)
        assert await stored(broker) == before
        assert await PublishedBundles(broker).get("dags", tree.manifest.digest) == entry
        assert await publisher.is_published(wanted)


async def test_a_changed_file_adds_its_pieces_only(server: NatsServer) -> None:
    tree = some_tree()
    async with connected(server, PUBLISHER) as broker:
        await publish(broker, tree)
        changed = Tree({**tree.files, "dir/f1.py": b"changed"})
        done = await BundlePublisher(broker, "a test").publish(Wanted("dags", changed.manifest), changed.read)
        assert (done.is_new, done.new_pieces, changed.reads) == (True, 1, 1)
        assert await fetched(broker, changed.manifest.digest) == changed.files
        assert await fetched(broker, tree.manifest.digest) == tree.files
        assert len(await PublishedBundles(broker).versions("dags")) == 2


async def test_a_version_is_made_current_again(server: NatsServer) -> None:
    """As after a revert: the version is there, and its entry says that it was published now."""
    one, two = some_tree(), some_tree()
    async with connected(server, PUBLISHER) as broker:
        bundles = PublishedBundles(broker)
        await publish(broker, one)
        first = await bundles.get("dags", one.manifest.digest)
        await publish(broker, two)
        assert not await publish(broker, one)
        again, current = await bundles.get("dags", one.manifest.digest), await bundles.current("dags")
        assert first is not None
        assert again is not None
        assert current is not None
        assert again.at > first.at
        assert again.stored_bytes == first.stored_bytes
        assert current.digest == one.manifest.digest


async def test_two_processes_publish_the_same_at_once(server: NatsServer) -> None:
    tree = some_tree(60)
    async with connected(server, PUBLISHER) as one, connected(server, PUBLISHER) as two:
        results = await asyncio.gather(publish(one, tree), publish(two, tree))
        assert any(results)
        assert await fetched(one, tree.manifest.digest) == tree.files
        assert sorted(await BundleStore(one).pieces()) == sorted(tree.pieces)
        assert len(await PublishedBundles(one).versions()) == 1


def _at(tree: Tree, piece: int, act: Callable[[], None]) -> Callable[[str], bytes]:
    """Reads pieces, and does something at one of them."""
    numbers = itertools.count()

    def read(digest: str) -> bytes:
        if next(numbers) == piece:
            act()
        return tree.read(digest)

    return read


async def test_nats_killed_in_the_middle_leaves_no_entry_and_the_next_attempt_completes(server: NatsServer) -> None:
    tree = some_tree(200)
    async with connected(server, PUBLISHER) as broker:
        loop = asyncio.get_running_loop()

        def kill() -> None:
            asyncio.run_coroutine_threadsafe(server.stop(kill=True), loop).result()

        with pytest.raises(BrokerUnavailable):
            await BundlePublisher(broker, "a test").publish(Wanted("dags", tree.manifest), _at(tree, 100, kill))
        await server.start()
        await eventually(lambda: broker.connected)
        bundles = PublishedBundles(broker)
        assert (await bundles.versions(), await bundles.current("dags")) == ([], None)
        assert 0 < len(await BundleStore(broker).pieces()) < len(tree.pieces)
        assert await BundleStore(broker).manifests() == []
        # The lock of the publication that failed is shared: it delays no publisher.
        assert await publish(broker, tree)
        assert await fetched(broker, tree.manifest.digest) == tree.files


async def test_a_tree_that_cannot_be_read_any_more_leaves_no_entry(server: NatsServer) -> None:
    tree = some_tree()

    def fail() -> None:
        raise FileNotFoundError

    async with connected(server, PUBLISHER) as broker:
        with pytest.raises(FileNotFoundError):
            await BundlePublisher(broker, "a test").publish(Wanted("dags", tree.manifest), _at(tree, 10, fail))
        assert await PublishedBundles(broker).versions() == []


async def test_a_full_store_names_the_remedies(server: NatsServer) -> None:
    async with connected(server, ADMIN) as admin, connected(server, PUBLISHER) as broker:
        kept = some_tree()
        await publish(broker, kept)
        await layout.apply(admin, layout.LayoutSettings(bundles_max_bytes=1 << 21))
        with pytest.raises(PublishRefused, match=r"--bundles-max.*bundles prune"):
            await publish(broker, some_tree())
        current = await PublishedBundles(broker).current("dags")
        assert current is not None
        assert current.digest == kept.manifest.digest


async def test_without_the_bucket_the_error_names_the_command(server: NatsServer) -> None:
    async with connected(server, ADMIN) as admin:
        await admin.api(f"STREAM.DELETE.{kv_stream(BUNDLES_BUCKET)}")
        with pytest.raises(BrokerUnavailable, match="streams apply"):
            await publish(admin, some_tree())
