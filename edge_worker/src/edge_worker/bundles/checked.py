"""What the agent knows of the versions on this disk: their inventories, and which lack their bytecode."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_schemas.bundles.manifest import BundleFile
from edge_worker.bundles.building import TREE, About, manifest_in, read_about, write_about
from edge_worker.bundles.files.added_bytecode import sources_in, with_bytecode
from edge_worker.bundles.files.inventory import Inventory, compared, verified_inventory
from edge_worker.bundles.files.tree import read_file


@dataclass
class CheckedVersions:
    """In memory only. Not for two threads: see `store`.

    Attributes:
        versions: The folder with all versions.
        uncompiled: The digests of versions without their bytecode, or with less than they had.
    """

    versions: Path
    uncompiled: set[str] = field(default_factory=set)
    _inventories: dict[str, Inventory | None] = field(default_factory=dict)
    """None stands for a version that was changed since this agent verified it."""

    def check(self, folder: Path) -> bool:
        """Whether a version is what its digest names: read completely at first, compared with its inventory later.

        Raises:
            OSError: The disk is full.
        """
        digest = folder.name
        known = self._inventories.get(digest)
        found = _verified(folder) if digest not in self._inventories else known and compared(folder / TREE, known)
        if found is known and known is not None:
            return True
        self.note(digest, found)
        return found is not None

    def note(self, digest: str, inventory: Inventory | None) -> None:
        """A version was made or verified; or it was changed."""
        self._inventories[digest] = inventory
        if inventory is not None:
            self.uncompiled.add(digest)

    def forget(self, digest: str) -> None:
        """A version was removed."""
        self._inventories.pop(digest, None)

    def take_uncompiled(self, digest: str) -> list[BundleFile]:
        """The sources whose bytecode a version lacks; they no longer count as uncompiled."""
        self.uncompiled.discard(digest)
        known, manifest = self._inventories.get(digest), manifest_in(self.versions / digest)
        return [] if known is None or manifest is None else sources_in(manifest, known)

    def sources(self, digest: str, files: Iterable[BundleFile]) -> dict[str, bytes]:
        """The content of files by their paths, without those that are not what the manifest says."""
        read = ((file.path, read_file(self.folder_of(digest), file)) for file in files)
        return {path: content for path, content in read if content is not None}

    def add_bytecode(self, digest: str, files: Mapping[bytes, bytes]) -> None:
        """Add files with bytecode to a version, unless the version was changed or removed meanwhile.

        Raises:
            OSError: The disk can't be written.
        """
        if (known := self._inventories.get(digest)) is not None:
            self._inventories[digest] = with_bytecode(self.folder_of(digest), known, files)

    def folder_of(self, digest: str) -> Path:
        """Where a version has its files."""
        return self.versions / digest / TREE


def _verified(folder: Path) -> Inventory | None:
    """Read all files of a version."""
    if (manifest := manifest_in(folder)) is None:
        return None
    found = verified_inventory(folder / TREE, manifest)
    if found is not None and read_about(folder) is None:
        write_about(folder, About(size=manifest.size))
    return found
