"""Which versions of bundles are published, and which one is current: the entries of `edge_bundles`.

An entry of a published version is written after its pieces and its manifest, and removed before them: what it names is
complete.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import structlog
from pydantic import BaseModel, ValidationError

from edge_broker.bucket import Bucket, RevisionConflict
from edge_broker.bundles import keys
from edge_broker.bundles.entries import CurrentVersion, KnownVersion, PublishedVersion
from edge_broker.connection.broker import Broker
from edge_broker.subjects import BUNDLES_BUCKET
from edge_schemas.bundles.manifest import is_digest

log = structlog.get_logger(__name__)

MARK_LIFE = timedelta(minutes=10)
AT_ONCE = 16

_Entry = TypeVar("_Entry", bound=BaseModel)
_KINDS = frozenset({keys.CURRENT, keys.PUBLISHED, keys.VERSION})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All entries.

    Attributes:
        unreadable: The keys of entries that this version can't read.
    """

    versions: list[PublishedVersion]
    current: list[CurrentVersion]
    known: list[KnownVersion]
    unreadable: list[str]

    def add(self, key: str, value: bytes | None) -> None:
        """Add an entry; nothing if it is gone."""
        kind = keys.kind_of(key)
        if value is None:
            return
        if kind == keys.PUBLISHED and (version := parse_entry(key, value, PublishedVersion)) is not None:
            self.versions.append(version)
        elif kind == keys.CURRENT and (current := parse_entry(key, value, CurrentVersion)) is not None:
            self.current.append(current)
        elif kind == keys.VERSION and (known := parse_entry(key, value, KnownVersion)) is not None:
            self.known.append(known)
        else:
            self.unreadable.append(key)


class PublishedBundles:
    """Reads and writes the entries, through the leader.

    Args:
        broker: With the rights of `keeper` or `publisher`; those of `reader`, `relay` or `executor` to read one entry.
    """

    def __init__(self, broker: Broker) -> None:
        self._bucket = Bucket(broker, BUNDLES_BUCKET)

    async def get(self, bundle: str, digest: str) -> PublishedVersion | None:
        """A published version; None if it is not, or no longer, published.

        Raises:
            BrokerUnavailable: No answer, or no such bucket yet.
        """
        return await self._read(keys.published_key(bundle, digest), PublishedVersion)

    async def current(self, bundle: str) -> CurrentVersion | None:
        """The current version of a bundle; None if none was made current.

        Raises:
            BrokerUnavailable: No answer, or no such bucket yet.
        """
        return await self._read(keys.current_key(bundle), CurrentVersion)

    async def digest_of(self, bundle: str, version: str) -> str | None:
        """The digest of a version as Airflow knows it, which may be a digest itself; None if it is not published."""
        if is_digest(version) and await self.get(bundle, version) is not None:
            return version
        known = await self._read(keys.version_key(bundle, version), KnownVersion)
        return None if known is None else known.digest

    async def versions(self, bundle: str | None = None) -> list[PublishedVersion]:
        """The published versions, of one bundle or of all, the oldest first."""
        pattern = "*.published.*" if bundle is None else keys.published_key(bundle, "*")
        return sorted(await self._read_all(pattern, PublishedVersion), key=lambda version: version.at)

    async def snapshot(self) -> "Snapshot":
        """All entries, read one after the other.

        Raises:
            BrokerUnavailable: No answer, or no such bucket yet.
        """
        found = Snapshot([], [], [], [])
        listed = [key for key in await self._bucket.keys(">") if keys.kind_of(key) in _KINDS]
        for start in range(0, len(listed), AT_ONCE):
            part = listed[start : start + AT_ONCE]
            for key, stored in zip(part, await asyncio.gather(*map(self._bucket.get, part)), strict=True):
                found.add(key, stored.value)
        return found

    async def known(self, bundle: str) -> list[KnownVersion]:
        """The versions of a bundle as Airflow knows them."""
        return await self._read_all(keys.versions_pattern(bundle), KnownVersion)

    async def put(self, entry: PublishedVersion | CurrentVersion | KnownVersion) -> None:
        """Write an entry, in place of an earlier one.

        Raises:
            StreamFull: There is no room.
            BrokerUnavailable: The outcome is unknown; repeat it.
        """
        await self._bucket.put(_key_of(entry), entry.model_dump_json().encode())

    async def remove(self, entry: PublishedVersion | CurrentVersion | KnownVersion) -> None:
        """Remove an entry; what it names stays. May be repeated.

        Raises:
            BrokerUnavailable: The outcome is unknown; repeat it.
        """
        key = _key_of(entry)
        stored = await self._bucket.get(key)
        if stored.value is None:
            return
        try:
            await self._bucket.delete(key, revision=stored.revision, mark_life=MARK_LIFE)
        except RevisionConflict:
            log.info("bundle_entry_kept", key=key, reason="it was written meanwhile")

    async def _read(self, key: str, kind: type[_Entry]) -> _Entry | None:
        return parse_entry(key, (await self._bucket.get(key)).value, kind)

    async def _read_all(self, pattern: str, kind: type[_Entry]) -> list[_Entry]:
        found: list[_Entry] = []
        listed = await self._bucket.keys(pattern)
        for start in range(0, len(listed), AT_ONCE):
            part = listed[start : start + AT_ONCE]
            entries = await asyncio.gather(*(self._read(key, kind) for key in part))
            found += [entry for entry in entries if entry is not None]
        return found


def parse_entry(key: str, value: bytes | None, kind: type[_Entry]) -> _Entry | None:
    """An entry; None if there is none, or none that this version can read: then it counts as not published."""
    if value is None:
        return None
    try:
        return kind.model_validate_json(value)
    except ValidationError as error:
        log.warning("bundle_entry_unreadable", key=key, errors=error.error_count())
        return None


def _key_of(entry: PublishedVersion | CurrentVersion | KnownVersion) -> str:
    if isinstance(entry, PublishedVersion):
        return keys.published_key(entry.name, entry.digest)
    if isinstance(entry, CurrentVersion):
        return keys.current_key(entry.name)
    return keys.version_key(entry.name, entry.version)
