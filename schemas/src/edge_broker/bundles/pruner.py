"""Removes what is published and no longer needed.

Entries first, then manifests without an entry, then pieces that no manifest names. Killed at any step, it leaves what
the next one removes. Publishers are shut out by the lock while something is removed, which is done in short parts: see
docs/adr/0041.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic

import structlog

from edge_broker.bundles.entries import KnownVersion, PublishedVersion
from edge_broker.bundles.lock import CONTENT, LIFE_S, BundleLock, HeldLock
from edge_broker.bundles.published import PublishedBundles, Snapshot
from edge_broker.bundles.store import BundleStore
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.records import RecordUnreadable, parse_record
from edge_broker.subjects import BUNDLES_BUCKET, RECORDS_BUCKET
from edge_broker.watched_bucket import WatchedBucket
from edge_schemas.bundles.manifest import ManifestRefused, pieces_named_by
from edge_schemas.life.model import JobState
from edge_service import task_cleanup

log = structlog.get_logger(__name__)

LOCK_WAIT_S = LIFE_S + 10.0
"""Longer than a dead publisher keeps the lock."""
PART_S = 2.0
"""For so long a publisher may have to wait."""
AT_ONCE = 8
LIST_S = 60.0


class PruneRefused(Exception):
    """Nothing more is removed: it can't be known what is needed. The text explains the reason and the remedy."""


@dataclass(slots=True)
class Pruned:
    """What was removed, or would be.

    Attributes:
        versions: Published versions.
        manifests: Digests of manifests without an entry.
        pieces: How many pieces.
        waiting: Versions that are not needed, and are kept for their minimum age.
    """

    versions: list[PublishedVersion] = field(default_factory=list)
    waiting: list[PublishedVersion] = field(default_factory=list)
    manifests: set[str] = field(default_factory=set)
    pieces: int = 0


class _Entries:
    """What `edge_bundles` holds."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.versions = snapshot.versions
        self._current = {(entry.name, entry.digest) for entry in snapshot.current}
        self._known: dict[tuple[str, str], list[KnownVersion]] = defaultdict(list)
        for known in snapshot.known:
            self._known[known.name, known.digest].append(known)

    def names_of(self, version: PublishedVersion) -> list[KnownVersion]:
        """How Airflow knows a version, besides its digest."""
        return self._known.get((version.name, version.digest), [])

    def unneeded(self, needed: Collection[str]) -> list[PublishedVersion]:
        """The versions that are not current and that no name of those needed means."""
        return [version for version in self.versions if not self._is_needed(version, needed)]

    def dangling(self) -> list[KnownVersion]:
        """Names that lead to no published version."""
        published = {(version.name, version.digest) for version in self.versions}
        return [name for target, names in self._known.items() if target not in published for name in names]

    def _is_needed(self, version: PublishedVersion, needed: Collection[str]) -> bool:
        names = [version.digest, *(known.version for known in self.names_of(version))]
        return (version.name, version.digest) in self._current or any(name in needed for name in names)


class Pruner:
    """Removes old versions.

    Args:
        broker: With the rights of the keeper.
        by: The process, for people.
        life_s: Of the lock; see `BundleLock`.
    """

    def __init__(self, broker: Broker, by: str, *, life_s: float = LIFE_S) -> None:
        self._broker = broker
        self._store = BundleStore(broker)
        self._published = PublishedBundles(broker)
        self._lock = BundleLock(broker, CONTENT, by, life_s=life_s)

    async def prune(self, in_use: Collection[str], min_age: timedelta, now: datetime) -> Pruned:
        """Remove the versions that have not been needed for so long, and then what only they needed.

        A version that is not needed for the first time is noted with the time, and removed by a later call.

        Args:
            in_use: Digests, and versions as Airflow knows them, that Airflow may ask for. Read before this call.
            min_age: At least as long as an executor may have a job in hand that has no record yet.
            now: The time.

        Raises:
            PruneRefused: A record of a job, or a manifest, can't be read.
            LockBusy: Versions are being published all the time.
            LockLost: NATS was unreachable for too long.
            BrokerUnavailable: The same.
        """
        pruned = Pruned()
        first = (await self._entries()).unneeded(in_use)
        due = {version.digest for version in first if _is_due(version, min_age, now)}
        needed = {*in_use, *(await digests_of_unfinished_jobs(self._broker) if due else ())}
        more = True
        while more:
            async with self._exclusive() as held:
                entries = await self._entries()
                unneeded = entries.unneeded(needed)
                removable = [
                    version for version in unneeded if version.digest in due and _is_due(version, min_age, now)
                ]
                more = await self._remove_entries(held, entries, removable, pruned)
                pruned.waiting = [_noted(version, now) for version in unneeded if version not in removable]
                if not more:
                    kept = [version for version in entries.versions if version not in removable]
                    await self._note(held, kept, unneeded, now)
        return pruned

    async def sweep(self, pruned: Pruned) -> None:
        """Remove manifests without an entry, and pieces that no manifest names. Raises as `prune` does."""
        async with self._exclusive() as held:
            for digest in await self._without_entry():
                held.check()
                await self._store.remove_manifest(digest)
                pruned.manifests.add(digest)
        known = set(await self._store.manifests())
        garbage = set(await self._store.pieces()) - await self._named_by(known)
        while garbage:
            async with self._exclusive() as held:
                new = set(await self._store.manifests()) - known
                garbage -= await self._named_by(new)
                known |= new
                pruned.pieces += await self._remove_pieces(held, garbage)

    async def preview(self, in_use: Collection[str], min_age: timedelta, now: datetime) -> Pruned:
        """What `prune` and `sweep` would remove now. Raises as they do."""
        entries = await self._entries()
        unneeded = entries.unneeded({*in_use, *await digests_of_unfinished_jobs(self._broker)})
        pruned = Pruned([version for version in unneeded if _is_due(version, min_age, now)])
        pruned.waiting = [version for version in unneeded if version not in pruned.versions]
        kept = {version.digest for version in entries.versions if version not in pruned.versions}
        stored = set(await self._store.manifests())
        pruned.manifests = stored - kept
        pruned.pieces = len(set(await self._store.pieces()) - await self._named_by(stored & kept))
        return pruned

    def _exclusive(self) -> AbstractAsyncContextManager[HeldLock]:
        return self._lock.hold(exclusive=True, wait_s=LOCK_WAIT_S)

    async def _entries(self) -> _Entries:
        snapshot = await self._published.snapshot()
        if snapshot.unreadable:
            raise PruneRefused(
                f"the entry {snapshot.unreadable[0]} of {BUNDLES_BUCKET} can't be read, so nothing is removed: update "
                "this program if a later version has written it, or publish the bundle again"
            )
        return _Entries(snapshot)

    async def _remove_entries(
        self, held: HeldLock, entries: _Entries, versions: list[PublishedVersion], pruned: Pruned
    ) -> bool:
        """Remove versions for a part of the time; returns whether there are more."""
        end = monotonic() + PART_S
        for name in entries.dangling():
            held.check()
            await self._published.remove(name)
        for version in versions:
            if monotonic() > end:
                return True
            for name in entries.names_of(version):
                held.check()
                await self._published.remove(name)
            held.check()
            await self._published.remove(version)
            pruned.versions.append(version)
            log.info("bundle_version_removed", bundle=version.name, digest=version.digest)
        return False

    async def _note(
        self, held: HeldLock, versions: list[PublishedVersion], unneeded: list[PublishedVersion], now: datetime
    ) -> None:
        """Note since when versions are not needed."""
        for version in versions:
            noted = _noted(version, now if version in unneeded else None)
            if version != noted:
                held.check()
                await self._published.put(noted)

    async def _without_entry(self) -> set[str]:
        """With the lock: a publisher writes the manifest before the entry."""
        return set(await self._store.manifests()) - {version.digest for version in (await self._entries()).versions}

    async def _named_by(self, manifests: Collection[str]) -> set[str]:
        """The pieces of manifests, one after the other: each may have megabytes. In a thread: that takes a while."""
        named: set[str] = set()
        for digest in manifests:
            frame = await self._store.manifest(digest)
            if frame is None:
                continue  # removed meanwhile, by another pruner
            try:
                named |= await asyncio.to_thread(pieces_named_by, frame, digest)
            except ManifestRefused as error:
                raise PruneRefused(
                    f"the manifest {digest} can't be read, so no piece is removed: {error}. Publish its bundle again, "
                    "or update this program if a later version has published it"
                ) from None
        return named

    async def _remove_pieces(self, held: HeldLock, garbage: set[str]) -> int:
        """Remove pieces for a part of the time; those that are gone are no longer in `garbage`."""
        end, before = monotonic() + PART_S, len(garbage)
        for part in _parts(list(garbage)):
            if monotonic() > end:
                break
            held.check()
            await asyncio.gather(*map(self._store.remove_piece, part))
            garbage.difference_update(part)
        return before - len(garbage)


async def digests_of_unfinished_jobs(broker: Broker) -> set[str]:
    """The versions of bundles that unfinished jobs name.

    Raises:
        PruneRefused: A record can't be read.
        BrokerUnavailable: The records could not be listed in time.
    """
    found: set[str] = set()
    unreadable: list[str] = []

    def read(key: str, value: bytes | None) -> None:
        if value is None:
            return
        try:
            record = parse_record(key, value)
        except RecordUnreadable:
            unreadable.append(key)
            return
        job = None if record is None or record.state is JobState.ENDED else record.job
        if job is not None and job.bundle is not None:
            found.add(job.bundle.digest)

    watched = WatchedBucket(broker, RECORDS_BUCKET, read)
    listing = asyncio.create_task(watched.run(), name="jobs-of-bundles")
    listed = asyncio.create_task(watched.complete.wait(), name="jobs-of-bundles-listed")
    try:
        await asyncio.wait({listing, listed}, timeout=LIST_S, return_when=asyncio.FIRST_COMPLETED)
        if listing.done():
            listing.result()
        if not listed.done():
            raise BrokerUnavailable(f"the records of jobs were not listed within {LIST_S:g} s")
    finally:
        await task_cleanup.cancel_and_wait([listing, listed])
    if unreadable:
        raise PruneRefused(
            f"the record of job {unreadable[0]} can't be read, so no version is removed. Update all parts to one "
            "version, or withdraw the job"
        )
    return found


def _noted(version: PublishedVersion, now: datetime | None) -> PublishedVersion:
    """With the time since which it is not needed; None for a version that is needed."""
    since = None if now is None else version.unneeded_since or now
    return version.model_copy(update={"unneeded_since": since})


def removable_from(version: PublishedVersion, min_age: timedelta) -> datetime | None:
    """When the minimum age of an unneeded version is over; None until a search has noted since when it is unneeded."""
    return None if version.unneeded_since is None else max(version.unneeded_since, version.at) + min_age


def _is_due(version: PublishedVersion, min_age: timedelta, now: datetime) -> bool:
    since = removable_from(version, min_age)
    return since is not None and now >= since


def _parts(digests: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(digests), AT_ONCE):
        yield digests[start : start + AT_ONCE]
