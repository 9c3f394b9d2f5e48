"""The entries of `edge_desired` in memory: as the watch shows them, and as this replica has just written them."""

from dataclasses import dataclass

from edge_schemas.admin.desired import DesiredEntry

OWN_FOR_S = 10.0
"""The watch has shown a change of this replica by then. If it still shows an older version, the change is gone: the
bucket was restored from a backup."""


@dataclass(frozen=True, slots=True)
class _Own:
    entry: DesiredEntry
    until: float


class Entries:
    """All entries. The watch decides; only for a moment, what was written here counts if it is newer."""

    def __init__(self) -> None:
        self._watched: dict[str, DesiredEntry] = {}
        self._own: dict[str, _Own] = {}

    def get(self, key: str) -> DesiredEntry | None:
        """The entry that counts."""
        own = self._own.get(key)
        return self._watched.get(key) if own is None else own.entry

    def all(self, prefix: str) -> list[tuple[str, DesiredEntry]]:
        """The entries that count, of all keys with this prefix."""
        keys = {key for key in (*self._watched, *self._own) if key.startswith(prefix)}
        return [(key, entry) for key in keys if (entry := self.get(key)) is not None]

    def watched(self, key: str, entry: DesiredEntry | None) -> None:
        """The watch shows this entry; None if there is none."""
        if entry is None:
            self._watched.pop(key, None)
            return
        self._watched[key] = entry
        own = self._own.get(key)
        if own is not None and entry.version >= own.entry.version:
            del self._own[key]

    def written(self, key: str, entry: DesiredEntry, now: float) -> None:
        """This replica has written this entry; it may have arrived by the watch already, or a newer one."""
        known = self.get(key)
        if known is None or known.version < entry.version:
            self._own[key] = _Own(entry, now + OWN_FOR_S)

    @property
    def has_own(self) -> bool:
        """Whether the watch has yet to show a change of this replica."""
        return bool(self._own)

    def forget_own(self, now: float) -> dict[str, DesiredEntry]:
        """Follow the watch again where it has not shown a change in time; returns those changes."""
        over = {key: own.entry for key, own in self._own.items() if own.until <= now}
        for key in over:
            del self._own[key]
        return over
