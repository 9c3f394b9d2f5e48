"""Old versions are removed, and nothing else, whatever is published meanwhile and whoever is killed."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from typing_extensions import override

from edge_broker.bundles.entries import KnownVersion, PublishedVersion
from edge_broker.bundles.lock import CONTENT, BundleLock, LockBusy, LockLost
from edge_broker.bundles.pruner import Pruned, Pruner, PruneRefused
from edge_broker.bundles.published import PublishedBundles
from edge_broker.bundles.publishing import BundlePublisher, Wanted
from edge_broker.bundles.store import BundleStore
from edge_broker.connection.broker import Broker
from edge_broker.permissions import ADMIN, EXECUTOR, KEEPER, PUBLISHER
from edge_broker.records import RecordStore
from edge_broker.subjects import BUNDLES, BUNDLES_BUCKET, RECORDS_BUCKET, kv_stream, kv_subject
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.bundles.manifest import BundleFile, Manifest, manifest_of, open_manifest
from edge_schemas.life.events import Expire
from edge_schemas.life.model import new_record
from edge_schemas.wire.jobs import BundleRef
from support.nats.server import broker_settings, connected, running_server
from support.relay.jobs import make_job

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAY = timedelta(days=1)
NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=2)
BUNDLE = "dags"
LIFE_S = 1.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsServer]:
    async with running_server(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def _empty(server: NatsServer) -> None:
    await empty(server)


async def empty(server: NatsServer) -> None:
    """Nothing is published, and there is no job."""
    async with connected(server, ADMIN) as admin:
        for stream in (BUNDLES, kv_stream(BUNDLES_BUCKET), kv_stream(RECORDS_BUCKET)):
            await admin.api(f"STREAM.PURGE.{stream}")


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def manifest(*texts: str) -> Manifest:
    """Of a bundle with a file for each text."""
    return manifest_of(BundleFile(f"{text}.py", False, len(text.encode()), (digest_of(text),)) for text in texts)


async def publish(
    broker: Broker, *texts: str, version: str | None = None, current: bool = True, life_s: float = LIFE_S
) -> str:
    """Publish a bundle with a file for each text; returns its digest."""
    made = manifest(*texts)
    by_digest = {digest_of(text): text.encode() for text in texts}
    publisher = BundlePublisher(broker, "a publisher", life_s=life_s)
    await publisher.publish(Wanted(BUNDLE, made, version, current=current), by_digest.__getitem__)
    return made.digest


async def prune(broker: Broker, *in_use: str, now: datetime = NOW, life_s: float = LIFE_S) -> Pruned:
    """Prune and sweep, as a keeper does."""
    pruner = Pruner(broker, "a pruner", life_s=life_s)
    pruned = await pruner.prune(set(in_use), DAY, now)
    await pruner.sweep(pruned)
    return pruned


async def stored(broker: Broker) -> tuple[set[str], set[str]]:
    """The digests of the published versions, all of them complete, and of all pieces."""
    store = BundleStore(broker)
    digests = {version.digest for version in await PublishedBundles(broker).versions(BUNDLE)}
    pieces = set(await store.pieces())
    for digest in digests:
        frame = await store.manifest(digest)
        assert frame is not None, f"an entry names {digest}, whose manifest is gone"
        assert set(open_manifest(frame, digest).pieces) <= pieces, f"pieces of {digest} are gone"
    return digests, pieces


async def test_what_nothing_names_is_removed_after_its_minimum_age(server: NatsServer) -> None:
    """With what only it needed, and not before."""
    async with connected(server, PUBLISHER) as publisher, connected(server, KEEPER) as keeper:
        old = await publish(publisher, "a", "b", version="c0ffee")
        kept = await publish(publisher, "b", "c", version="beef")
        current = await publish(publisher, "c", "d")
        first = await prune(keeper, "beef")
        assert ([version.digest for version in first.waiting], first.versions) == ([old], [])
        assert (await prune(keeper, "beef", now=NOW + DAY / 2)).versions == []
        assert (await stored(keeper))[0] == {old, kept, current}
        last = await prune(keeper, "beef", now=LATER)
        assert [version.digest for version in last.versions] == [old]
        assert (last.manifests, last.pieces) == ({old}, 1)
        assert await stored(keeper) == ({kept, current}, {digest_of(text) for text in "bcd"})
        assert await PublishedBundles(keeper).known(BUNDLE) == [KnownVersion(name=BUNDLE, version="beef", digest=kept)]
        assert (await prune(keeper, "beef", now=LATER + DAY)).versions == []


async def test_a_version_that_is_needed_again_begins_a_new_age(server: NatsServer) -> None:
    async with connected(server, KEEPER) as keeper:
        old = await publish(keeper, "a")
        await publish(keeper, "b")
        await prune(keeper)
        await prune(keeper, old, now=NOW + DAY)
        again = await prune(keeper, now=LATER)
        assert ([version.digest for version in again.waiting], again.versions) == ([old], [])
        assert [version.digest for version in (await prune(keeper, now=LATER + DAY)).versions] == [old]


async def test_a_version_is_kept_for_an_unfinished_job(server: NatsServer) -> None:
    """A waiting one, too; until it ends, and for the minimum age after that."""
    async with connected(server, KEEPER) as keeper, connected(server, EXECUTOR) as executor:
        old = await publish(keeper, "a")
        await publish(keeper, "b")
        job = make_job().model_copy(update={"bundle": BundleRef(name=BUNDLE, digest=old)})
        records = RecordStore(executor)
        await records.create(new_record(job))
        await prune(keeper)
        assert (await prune(keeper, now=LATER)).versions == []
        await records.change(job.id, Expire("enough", NOW))
        assert (await prune(keeper, now=LATER + DAY / 2)).versions == []
        assert [version.digest for version in (await prune(keeper, now=LATER + 2 * DAY)).versions] == [old]


async def test_with_an_unreadable_record_entry_or_manifest_nothing_is_removed(server: NatsServer) -> None:
    """A later version may have written it, during an upgrade."""
    async with connected(server, KEEPER) as keeper, connected(server, ADMIN) as admin:
        old = await publish(keeper, "a")
        await publish(keeper, "b")
        await prune(keeper)
        before = await stored(keeper)
        key = kv_subject(RECORDS_BUCKET, "00000000-0000-0000-0000-000000000001")
        await admin.store(key, b'{"state": "paused"}')
        with pytest.raises(PruneRefused, match="record of job"):
            await prune(keeper, now=LATER)
        await admin.api(f"STREAM.PURGE.{kv_stream(RECORDS_BUCKET)}")
        entry = kv_subject(BUNDLES_BUCKET, f"{BUNDLE}.published.{'f' * 64}")
        await admin.store(entry, b'{"later": true}')
        with pytest.raises(PruneRefused, match="entry"):
            await prune(keeper, now=LATER)
        assert await stored(keeper) == before
        await admin.api(f"STREAM.PURGE.{kv_stream(BUNDLES_BUCKET)}", {"filter": entry})
        await admin.store(f"edge.bundles.manifest.{'f' * 64}", b"of a later version")
        await PublishedBundles(keeper).put(
            PublishedVersion(name="x", digest="f" * 64, files=0, size=0, stored_bytes=0, at=NOW, by="x")
        )
        with pytest.raises(PruneRefused, match="manifest"):
            await prune(keeper, now=LATER)
        assert (await stored(keeper))[1] == before[1]
        assert old in before[0]


async def test_a_preview_names_what_is_removed_then(server: NatsServer) -> None:
    async with connected(server, KEEPER) as keeper:
        old = await publish(keeper, "a", "b")
        await publish(keeper, "b", "c")
        await prune(keeper)
        before = await stored(keeper)
        shown = await Pruner(keeper, "a test").preview(set(), DAY, LATER)
        assert await stored(keeper) == before
        assert [version.digest for version in shown.versions] == [old]
        done = await prune(keeper, now=LATER)
        assert [version.digest for version in done.versions] == [old]
        assert (shown.manifests, shown.pieces) == (done.manifests, done.pieces) == ({old}, 1)


class Killed(Exception):
    """The process is gone."""


class SteppedBroker(Broker):
    """Counts its requests to NATS, and can stop or die before one of them.

    Attributes:
        requests: How many were made.
    """

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.requests = 0
        self.stop_at: int | None = None
        self.die_at: int | None = None
        self.stopped = asyncio.Event()
        self.go_on = asyncio.Event()

    @override
    async def store(self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None) -> int:
        await self._step()
        return await super().store(subject, payload, headers)

    @override
    async def api(self, call: str, body: Mapping[str, object] | None = None) -> Any:
        await self._step()
        return await super().api(call, body)

    async def _step(self) -> None:
        self.requests += 1
        if self.die_at is not None and self.requests >= self.die_at:
            raise Killed
        if self.requests == self.stop_at:
            self.stopped.set()
            await self.go_on.wait()


@asynccontextmanager
async def stepped(server: NatsServer) -> AsyncIterator[SteppedBroker]:
    async with SteppedBroker(broker_settings(server, KEEPER)) as broker:
        await broker.wait_connected(10)
        yield broker


@dataclass
class Scene:
    """A version that is due for removal, and one that is published anew with a piece of it.

    Attributes:
        old: The digest of the first.
    """

    old: str
    current: str

    @staticmethod
    async def set(server: NatsServer) -> "Scene":
        await empty(server)
        async with connected(server, KEEPER) as keeper:
            old = await publish(keeper, "a", "b")
            current = await publish(keeper, "b", "c")
            await prune(keeper)
            return Scene(old, current)


def publish_new(broker: Broker) -> Awaitable[str]:
    return publish(broker, "a", "d")


def publish_old(broker: Broker) -> Awaitable[str]:
    return publish(broker, "a", "b")


def prune_later(broker: Broker) -> Awaitable[Pruned]:
    return prune(broker, now=LATER)


Work = Callable[[Broker], Awaitable[object]]


async def steps_of(server: NatsServer, work: Work) -> int:
    """How many requests it makes when nothing else happens."""
    await Scene.set(server)
    async with stepped(server) as broker:
        await work(broker)
        return broker.requests


EVERY = pytest.mark.parametrize(
    "every",
    [
        pytest.param(6, marks=pytest.mark.timeout(240)),
        pytest.param(1, marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
    ],
)


@EVERY
@pytest.mark.parametrize("new", [publish_new, publish_old])
async def test_publishing_at_each_step_of_pruning_loses_nothing(server: NatsServer, new: Work, every: int) -> None:
    """And pruning at each step of publishing: the other one begins there, and both end."""
    for first, second in ((prune_later, new), (new, prune_later)):
        for step in range(1, await steps_of(server, first) + 1, every):
            scene = await Scene.set(server)
            async with stepped(server) as one, stepped(server) as other:
                one.stop_at = step
                running = asyncio.create_task(_run(first, one))
                stopped = asyncio.create_task(one.stopped.wait())
                await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
                interleaved = asyncio.create_task(_run(second, other))
                await asyncio.wait({interleaved}, timeout=0.1)  # it has ended, or waits for the lock
                one.go_on.set()
                await asyncio.gather(running, interleaved)
                stopped.cancel()
                await _check(other, scene, new, step)


async def _run(work: Work, broker: Broker) -> None:
    """As a keeper or a dag-processor does: what was lost with the lock is repeated."""
    while True:
        with suppress(LockLost, LockBusy):
            await work(broker)
            return


async def _check(broker: Broker, scene: Scene, new: Work, step: int) -> None:
    """What was published is complete, and nothing remains that nothing needs once all is over."""
    digests, _ = await stored(broker)
    wanted = manifest(*("ad" if new is publish_new else "ab")).digest
    assert {wanted, scene.current} <= digests, f"step {step}"
    await prune(broker, now=LATER)
    await prune(broker, scene.current, now=LATER + 3 * DAY)
    digests, pieces = await stored(broker)
    assert digests == {wanted, scene.current}, f"step {step}"
    assert pieces == {digest_of(text) for text in ("abcd" if new is publish_new else "abc")}, f"step {step}"


@EVERY
@pytest.mark.parametrize("dies", [prune_later, publish_new])
async def test_killed_at_each_step_it_delays_the_next_one_for_a_limited_time(
    server: NatsServer, dies: Work, every: int
) -> None:
    """Publishing succeeds after it, and pruning removes what it has left."""
    for step in range(1, await steps_of(server, dies) + 1, every):
        scene = await Scene.set(server)
        async with stepped(server) as dead, connected(server, KEEPER) as keeper:
            dead.die_at = step
            with suppress(Killed):
                await dies(dead)
            async with asyncio.timeout(LIFE_S + 4):
                await publish_new(keeper)
                await _check(keeper, scene, publish_new, step)


async def test_only_one_has_the_lock_exclusively_and_many_share_it(server: NatsServer) -> None:
    async with connected(server, KEEPER) as one, connected(server, PUBLISHER) as two:
        mine, theirs = BundleLock(one, CONTENT, "one", life_s=LIFE_S), BundleLock(two, CONTENT, "two", life_s=LIFE_S)
        async with mine.hold(exclusive=False, wait_s=1), theirs.hold(exclusive=False, wait_s=1) as held:
            with pytest.raises(LockBusy, match="one, two"):
                async with mine.hold(exclusive=True, wait_s=0.2):
                    pass
            await asyncio.sleep(2 * LIFE_S)
            held.check()
        async with theirs.hold(exclusive=True, wait_s=1):
            with pytest.raises(LockBusy, match="held by two"):
                async with mine.hold(exclusive=False, wait_s=0.2):
                    pass
        async with mine.hold(exclusive=False, wait_s=0):
            pass


async def test_a_holder_without_nats_knows_that_it_has_lost_the_lock(server: NatsServer) -> None:
    """Before any other may have it."""
    async with stepped(server) as cut, connected(server, KEEPER) as other:
        with suppress(Killed):
            async with BundleLock(cut, CONTENT, "cut", life_s=LIFE_S).hold(exclusive=True, wait_s=1) as held:
                held.check()
                cut.die_at = 0
                began = asyncio.get_running_loop().time()
                async with BundleLock(other, CONTENT, "other", life_s=LIFE_S).hold(exclusive=True, wait_s=5):
                    assert asyncio.get_running_loop().time() - began >= LIFE_S
                    assert not held.is_held
                    with pytest.raises(LockLost):
                        held.check()


async def test_current_names_are_those_of_their_bundle(server: NatsServer) -> None:
    """The same version may be current in one bundle and old in another."""
    async with connected(server, KEEPER) as keeper:
        digest = await publish(keeper, "a")
        bundles = PublishedBundles(keeper)
        (entry,) = await bundles.versions(BUNDLE)
        await bundles.put(entry.model_copy(update={"name": "other"}))
        await prune(keeper)
        pruned = await prune(keeper, now=LATER)
        assert [(version.name, version.digest) for version in pruned.versions] == [("other", digest)]
        assert await stored(keeper) == ({digest}, {digest_of("a")})
        current = await bundles.current(BUNDLE)
        assert current is not None
        assert current.digest == digest
