"""Publishes a version: its pieces, then its manifest, then the entry that names it. What an entry names is complete.

Any number of processes may publish at once, also the same version; pruning is shut out meanwhile.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from edge_broker.bundles.entries import CurrentVersion, KnownVersion, PublishedVersion
from edge_broker.bundles.lock import CONTENT, LIFE_S, BundleLock, HeldLock
from edge_broker.bundles.published import PublishedBundles
from edge_broker.bundles.store import BundleStore
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import PayloadTooLarge, StreamFull
from edge_schemas.bundles.manifest import Manifest, ManifestRefused, pack_manifest
from edge_schemas.bundles.pieces import pack_piece

LOCK_WAIT_S = LIFE_S + 10.0
"""Longer than a dead process keeps the lock."""
AT_ONCE = 8

ReadPiece = Callable[[str], bytes]
"""The bytes of the piece with this digest. Called in other threads; what it raises ends the publication."""


class PublishRefused(Exception):
    """NATS does not accept this version; the text explains the remedy."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be published.

    Attributes:
        name: Airflow's name for the bundle.
        version: How Airflow knows this version, such as a commit; None if only by its digest.
        requirements: See `PublishedVersion`.
        current: Runs without a version get this one from now on.
    """

    name: str
    manifest: Manifest
    version: str | None = None
    requirements: Mapping[str, str] = field(default_factory=dict)
    current: bool = True


@dataclass(slots=True)
class Publication:
    """What was published.

    Attributes:
        new_pieces: Those that no other version had.
        new_bytes: What was added to the store, compressed.
        is_new: The version was not published before.
    """

    digest: str
    new_pieces: int = 0
    new_bytes: int = 0
    is_new: bool = False


class BundlePublisher:
    """Publishes versions of bundles.

    Args:
        broker: With the rights of `publisher` or `keeper`.
        by: The process, for people.
        life_s: Of the lock; see `BundleLock`.
    """

    def __init__(self, broker: Broker, by: str, *, life_s: float = LIFE_S) -> None:
        self._store = BundleStore(broker)
        self._published = PublishedBundles(broker)
        self._lock = BundleLock(broker, CONTENT, by, life_s=life_s)
        self._by = by

    async def is_published(self, wanted: Wanted) -> bool:
        """Whether nothing of this is left to do, as far as the entries say.

        Raises:
            BrokerUnavailable: No answer.
        """
        digest = wanted.manifest.digest
        entry, current = await asyncio.gather(
            self._published.get(wanted.name, digest), self._published.current(wanted.name)
        )
        is_current = current is not None and current.digest == digest
        # A version that is not the current one may be about to be removed.
        return is_current and _same(entry, wanted) and await self._is_known(wanted)

    async def publish(self, wanted: Wanted, read: ReadPiece) -> Publication:
        """Publish a version as far as it is not published. May be repeated.

        Raises:
            PublishRefused: The store is full, or the version is too large for it.
            LockBusy: Something is removed from the store all the time.
            LockLost: NATS was unreachable for too long; repeat it.
            BrokerUnavailable: The same.
        """
        done = Publication(wanted.manifest.digest)
        try:
            async with self._lock.hold(exclusive=False, wait_s=LOCK_WAIT_S) as held:
                await self._put_content(wanted.manifest, read, held, done)
                await self._put_entries(wanted, held, done)
                # If it is still held, it was held at each step: nothing that the entries name was removed meanwhile.
                held.check()
        except StreamFull as error:
            raise PublishRefused(
                "the store of bundles is full: give it more room with 'edge-relay streams apply --bundles-max', or "
                "remove old versions with 'airflow edge-relay bundles prune'"
            ) from error
        except PayloadTooLarge as error:
            raise PublishRefused(f"{error}: max_payload of the NATS servers must be 1 MiB at least") from error
        except ManifestRefused as error:
            raise PublishRefused(str(error)) from error
        return done

    async def _put_content(self, manifest: Manifest, read: ReadPiece, held: HeldLock, done: Publication) -> None:
        frame = await asyncio.to_thread(pack_manifest, manifest)
        missing = await self._store.missing(list(manifest.pieces))
        for start in range(0, len(missing), AT_ONCE):
            held.check()
            batch = missing[start : start + AT_ONCE]
            await asyncio.gather(*(self._put_piece(digest, read, done) for digest in batch))
        held.check()
        if await self._store.put_manifest(manifest.digest, frame):
            done.new_bytes += len(frame)

    async def _put_piece(self, digest: str, read: ReadPiece, done: Publication) -> None:
        frame = await asyncio.to_thread(lambda: pack_piece(read(digest)))
        if await self._store.put_piece(digest, frame):
            done.new_pieces += 1
            done.new_bytes += len(frame)

    async def _put_entries(self, wanted: Wanted, held: HeldLock, done: Publication) -> None:
        digest, now = wanted.manifest.digest, datetime.now(UTC)
        entry = await self._published.get(wanted.name, digest)
        current = await self._published.current(wanted.name)
        is_current = current is not None and current.digest == digest
        done.is_new = entry is None
        if entry is None or not _same(entry, wanted) or not is_current:
            held.check()
            await self._published.put(
                PublishedVersion(
                    name=wanted.name,
                    digest=digest,
                    files=len(wanted.manifest.files),
                    size=wanted.manifest.size,
                    stored_bytes=done.new_bytes if entry is None else entry.stored_bytes,
                    at=now,
                    by=self._by,
                    requirements=dict(wanted.requirements),
                )
            )
        if wanted.version is not None and not await self._is_known(wanted):
            held.check()
            await self._published.put(KnownVersion(name=wanted.name, version=wanted.version, digest=digest))
        if wanted.current and not is_current:
            held.check()
            await self._published.put(CurrentVersion(name=wanted.name, digest=digest, at=now, by=self._by))

    async def _is_known(self, wanted: Wanted) -> bool:
        if wanted.version is None:
            return True
        return await self._published.digest_of(wanted.name, wanted.version) == wanted.manifest.digest


def _same(entry: PublishedVersion | None, wanted: Wanted) -> bool:
    return entry is not None and entry.requirements == dict(wanted.requirements)
