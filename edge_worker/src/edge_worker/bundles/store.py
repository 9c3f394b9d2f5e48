"""The versions on this machine's disk.

    versions/<digest>/tree            the files and their bytecode, read-only
    versions/<digest>/manifest        the manifest's frame
    versions/<digest>/about.json      for people, and for the limits of the disk; see `About`
    partial/<digest>/                 a version that is being fetched; see `partial`
    removed/                          what is being removed

A version appears by a rename, complete and verified. Before each job it is compared with its inventory, which is in
this agent's memory; after a start of the agent all files are read once.

Not for the event loop, and not for two threads: the methods read and write files, and a version must not be removed
between the check that it is here and the launch of its job. That a job has a folder keeps its version.
"""

import os
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from shutil import disk_usage
from uuid import uuid4

from edge_schemas.bundles.manifest import Manifest
from edge_worker.bundles.building import (
    TREE,
    About,
    LocalPiece,
    build_tree,
    read_about,
    write_about,
)
from edge_worker.bundles.checked import CheckedVersions
from edge_worker.bundles.files.folders import remove_tree
from edge_worker.bundles.partial import MANIFEST, Partial
from edge_worker.bundles.pruning import BundleLimits, CachedVersion, to_remove
from edge_worker.bundles.unavailable import CodeUnavailable
from edge_worker.log import EventLog

PARTIAL_KEEP_S = 86400.0
"""How long pieces are kept of a version that no job waits for."""
_MIB = 1024 * 1024

log = EventLog("edge_worker.bundles.store")


@dataclass
class BundleStore:
    """All versions.

    Attributes:
        path: The folder.
        in_use: Returns the digests that the folders of jobs name.
        checked: What this agent knows of them.
    """

    path: Path
    limits: BundleLimits
    in_use: Callable[[], AbstractSet[str]]
    free: Callable[[Path], int] = lambda path: disk_usage(path).free
    checked: CheckedVersions = field(init=False)

    def __post_init__(self) -> None:
        """Nothing is known of what is on the disk."""
        self._versions, self._partial, self._removed = (self.path / name for name in ("versions", "partial", "removed"))
        self.checked = CheckedVersions(self._versions)

    def prepare(self) -> None:
        """Make the folders, and finish removals that an earlier run of the agent has begun.

        Raises:
            OSError: They can't be made.
        """
        self._make_folders()
        for left in self._removed.iterdir():
            _remove(left)

    def tree(self, digest: str) -> Path | None:
        """The folder with the files of a version, which counts as used now; None if it is not here, or was changed.

        Raises:
            OSError: It can't be marked as used.
        """
        folder = self._versions / digest
        if not folder.exists():
            return None
        if not self.checked.check(folder):
            means = "a task, a person or the disk has changed its files: it is made again"
            log.warning("bundle_changed_on_disk", digest=digest, means=means)
            return None
        os.utime(folder)
        return folder / TREE

    def partial(self, digest: str) -> Partial:
        """Where a version is fetched to.

        Raises:
            OSError: The folder can't be made.
        """
        self._make_folders()
        partial = Partial(self._partial / digest)
        partial.prepare()
        return partial

    def check_room(self, manifest: Manifest, to_fetch: int) -> None:
        """Remove versions that no job uses, as far as the disk has not enough room.

        Raises:
            CodeUnavailable: The version is too large, or there is not enough room.
        """
        size, most = manifest.size, self.limits.version_max_bytes
        if size > most:
            raise CodeUnavailable(f"its files have {size} bytes, more than bundle_max_bytes = {most} of this worker")
        needed = size + to_fetch + self.limits.reserve_bytes
        if (short := needed - self.free(self.path)) > 0:
            self.prune(room=short)
        if (short := needed - self.free(self.path)) > 0:
            text = f"the worker's disk has too little room: {short / _MIB:.0f} MiB more are needed"
            raise CodeUnavailable(text, releases=True, pauses=True)

    def build(self, partial: Partial, manifest: Manifest, local: Mapping[str, LocalPiece], bundle: str) -> Path:
        """Make a version from its pieces; returns the folder with its files.

        Raises:
            PiecesMissing: See `build_tree`.
            OSError: See `build_tree`.
        """
        folder = partial.path / "version"
        self._discard(folder)
        folder.mkdir(mode=0o710)
        inventory = build_tree(folder / TREE, partial, manifest, local)
        write_about(folder, About(bundle=bundle, size=manifest.size))
        (partial.path / MANIFEST).rename(folder / MANIFEST)
        target = self._versions / manifest.digest
        self._discard(target)
        folder.rename(target)
        self.checked.note(manifest.digest, inventory)
        self._discard(partial.path)
        return target / TREE

    def prune(self, *, room: int = 0) -> None:
        """Remove what is too old or too much, and is not in use. What can't be removed is logged.

        Args:
            room: See `to_remove`.
        """
        now, versions = time.time(), self.versions()
        removed = to_remove(versions, self.limits, now=now, room=room)
        for digest in removed:
            self._discard(self._versions / digest)
            self.checked.forget(digest)
        if removed:
            freed = sum(version.size for version in versions if version.digest in removed)
            log.info("bundles_removed", versions=len(removed), freed_bytes=freed)
        in_use = self.in_use()
        for folder in list(self._partial.iterdir()):
            if folder.name not in in_use and now - folder.stat().st_mtime >= PARTIAL_KEEP_S:
                self._discard(folder)

    def versions(self) -> list[CachedVersion]:
        """What is here."""
        in_use = self.in_use()
        found = []
        for folder in self.folders():
            about = read_about(folder) or About(size=0)
            used_at = folder.stat().st_mtime
            found.append(CachedVersion(folder.name, about.bundle, about.size, used_at, folder.name in in_use))
        return found

    def _make_folders(self) -> None:
        for folder in (self._versions, self._partial, self._removed):
            folder.mkdir(mode=0o710, parents=True, exist_ok=True)

    def folders(self) -> list[Path]:
        """Those of all versions."""
        try:
            return [path for path in sorted(self._versions.iterdir()) if path.is_dir()]
        except FileNotFoundError:
            return []

    def _discard(self, folder: Path) -> None:
        """Remove a folder; a version is no longer there when the removal begins.

        Raises:
            OSError: It can't be moved.
        """
        if not os.path.lexists(folder):
            return
        gone = self._removed / f"{folder.name}.{uuid4().hex}"
        folder.rename(gone)
        _remove(gone)


def _remove(folder: Path) -> None:
    try:
        if folder.is_dir() and not folder.is_symlink():
            remove_tree(folder)
        else:
            folder.unlink(missing_ok=True)
    except (OSError, RecursionError) as error:  # a task may have made folders in folders
        log.warning("bundle_not_removed", path=str(folder), error=str(error))
