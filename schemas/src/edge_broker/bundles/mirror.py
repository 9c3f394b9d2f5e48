"""The bucket `edge_bundles` kept in memory, for decisions that must not wait for NATS."""

from collections.abc import Callable

from edge_broker.bundles import keys
from edge_broker.bundles.entries import CurrentVersion, KnownVersion, PublishedVersion
from edge_broker.bundles.published import parse_entry
from edge_broker.connection.broker import Broker
from edge_broker.subjects import BUNDLES_BUCKET
from edge_broker.watched_bucket import WatchedBucket

_Entry = PublishedVersion | CurrentVersion | KnownVersion
_KINDS: dict[str, type[_Entry]] = {
    keys.CURRENT: CurrentVersion,
    keys.PUBLISHED: PublishedVersion,
    keys.VERSION: KnownVersion,
}


class BundleMirror:
    """Follows the published versions of all bundles. Run `run()` in a task group.

    What was just published, or removed, may not be shown yet.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._on_change: Callable[[], None] = lambda: None
        self._on_complete: Callable[[], None] = lambda: None
        self._watched: WatchedBucket | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all entries are known; not while the connection is lost."""
        return self._watched is not None and self._watched.complete.is_set()

    def listen(self, on_change: Callable[[], None], on_complete: Callable[[], None] = lambda: None) -> None:
        """Call these after each change of an entry, and each time that all entries are known. They must not block."""
        self._on_change, self._on_complete = on_change, on_complete

    async def run(self, broker: Broker) -> None:
        """Follow the bucket, without end. May be called again, with another connection."""
        self._watched = WatchedBucket(
            broker, BUNDLES_BUCKET, self.apply, known=list(self._entries), on_complete=self._on_complete
        )
        await self._watched.run()

    def get(self, bundle: str, digest: str) -> PublishedVersion | None:
        """A published version; None if it is not published."""
        entry = self._entries.get(keys.published_key(bundle, digest))
        return entry if isinstance(entry, PublishedVersion) else None

    def current(self, bundle: str) -> PublishedVersion | None:
        """The version that a run without a version gets; None if there is none."""
        entry = self._entries.get(keys.current_key(bundle))
        return None if entry is None else self.get(bundle, entry.digest)

    def find(self, bundle: str, version: str) -> PublishedVersion | None:
        """A version as Airflow knows it, which may be a digest itself; None if it is not published."""
        if (published := self.get(bundle, version)) is not None:
            return published
        entry = self._entries.get(keys.version_key(bundle, version))
        return None if entry is None else self.get(bundle, entry.digest)

    def versions(self, bundle: str | None = None) -> list[PublishedVersion]:
        """The published versions of one bundle, or of all."""
        versions = [entry for entry in self._entries.values() if isinstance(entry, PublishedVersion)]
        return [version for version in versions if bundle in (None, version.name)]

    def apply(self, key: str, value: bytes | None) -> None:
        """Note an entry, or that it is gone. Entries of a later version are ignored."""
        kind = _KINDS.get(keys.kind_of(key))
        entry = None if kind is None else parse_entry(key, value, kind)
        if entry is None:
            self._entries.pop(key, None)
        else:
            self._entries[key] = entry
        if kind is not None:
            self._on_change()
