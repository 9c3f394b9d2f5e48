"""The versions on this machine's disk.

    versions/<digest>/tree         the files, read-only
    versions/<digest>/manifest     the manifest's frame
    versions/<digest>/record.json  the state of the files when they were verified; see `record`
    partial/<digest>/              a version that is being fetched; see `partial`
    removed/                       what is being removed

A version appears by a rename, complete and verified. Not for the event loop, and not for two threads: the methods read
and write files, and a version must not be removed between the check that it is here and the launch of its job. That a
job has a folder keeps its version.
"""

import os
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from shutil import disk_usage
from uuid import uuid4

from edge_schemas.bundles.manifest import Manifest, ManifestRefused, open_manifest
from edge_schemas.bundles.pieces import PIECE_BYTES, piece_digest
from edge_worker.bundles.folders import open_below, open_file, opened_folder, parts_of, remove_tree
from edge_worker.bundles.partial import MANIFEST, Partial
from edge_worker.bundles.pruning import BundleLimits, CachedVersion, to_remove
from edge_worker.bundles.record import Changes, VersionRecord, changes_in, read_record, verified_record, write_record
from edge_worker.bundles.tree import write_tree
from edge_worker.bundles.unavailable import CodeUnavailable
from edge_worker.log import EventLog

RECORD, TREE = "record.json", "tree"
PARTIAL_KEEP_S = 86400.0
"""How long pieces are kept of a version that no job waits for."""
_MIB = 1024 * 1024

log = EventLog("edge_worker.bundles.store")


@dataclass(frozen=True, slots=True)
class LocalPiece:
    """Where a version on this disk has a piece."""

    tree: Path
    path: str
    offset: int


class PiecesMissing(Exception):
    """Pieces are not here, or not what they should be."""

    def __init__(self, digests: AbstractSet[str]) -> None:
        super().__init__(f"{len(digests)} pieces")
        self.digests = digests


@dataclass
class BundleStore:
    """All versions.

    Attributes:
        path: The folder.
        in_use: Returns the digests that the folders of jobs name.
    """

    path: Path
    limits: BundleLimits
    in_use: Callable[[], AbstractSet[str]]
    free: Callable[[Path], int] = field(default=lambda path: disk_usage(path).free)

    def prepare(self) -> None:
        """Make the folders, and finish removals that an earlier run of the agent has begun.

        Raises:
            OSError: They can't be made.
        """
        self._make_folders()
        for left in self._removed.iterdir():
            _remove(left)

    def tree(self, digest: str) -> Path | None:
        """The folder with the files of a version, if it is here and complete; from here on it counts as used.

        What was changed since it was made is noticed: such a version counts as not here.

        Raises:
            OSError: It can't be marked as used.
        """
        folder = self._versions / digest
        if not folder.exists():
            return None
        record = read_record(folder / RECORD)
        changes = None if record is None else changes_in(folder / TREE, record)
        if (record is None or changes) and not self._is_verified(folder, record, changes):
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

    def local_pieces(self, manifest: Manifest) -> dict[str, LocalPiece]:
        """The pieces of a version that other versions have, or an earlier tree of the same one."""
        found: dict[str, LocalPiece] = {}
        for folder in self._folders():
            for file in () if (other := self._manifest(folder)) is None else other.files:
                for number, piece in enumerate(file.pieces):
                    if piece in manifest.pieces:
                        found.setdefault(piece, LocalPiece(folder / TREE, file.path, number * PIECE_BYTES))
        return found

    def check_room(self, manifest: Manifest, to_fetch: int) -> None:
        """Remove versions that no job uses, as far as the disk has not enough room.

        Raises:
            CodeUnavailable: The version is too large, or there is not enough room.
        """
        size, most = manifest.size, self.limits.version_max_bytes
        if size > most:
            raise CodeUnavailable(f"its files have {size} bytes, more than bundle_max_bytes = {most} of this worker")
        short = size + to_fetch + self.limits.reserve_bytes - self.free(self.path)
        if short > 0:
            self.prune(room=short)
            short = size + to_fetch + self.limits.reserve_bytes - self.free(self.path)
        if short > 0:
            text = f"the worker's disk has too little room: {short / _MIB:.0f} MiB more are needed"
            raise CodeUnavailable(text, releases=True, pauses=True)

    def build(self, partial: Partial, manifest: Manifest, local: Mapping[str, LocalPiece], bundle: str) -> Path:
        """Make a version from its pieces; returns the folder with its files.

        Raises:
            PiecesMissing: These must be fetched, and not be read from `local`.
            OSError: The disk is full.
        """
        folder = partial.path / "version"
        self._discard(folder)
        folder.mkdir(mode=0o700)
        missing: set[str] = set()

        def read(digest: str, size: int) -> bytes:
            data = partial.read(digest, size)
            if data is None and (place := local.get(digest)) is not None:
                data = _read_local(place, digest, size)
            if data is None:
                missing.add(digest)
            return bytes(size) if data is None else data

        write_tree(folder / TREE, manifest, read)
        if missing:
            raise PiecesMissing(missing)
        record = verified_record(folder / TREE, manifest, bundle)
        if record is None:
            raise OSError("what was written is not what is read")
        write_record(folder / RECORD, record)
        (partial.path / MANIFEST).rename(folder / MANIFEST)
        target = self._versions / manifest.digest
        self._discard(target)
        folder.rename(target)
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
        for folder in self._folders():
            record = read_record(folder / RECORD)
            bundle, size = ("", 0) if record is None else (record.bundle, record.size)
            found.append(CachedVersion(folder.name, bundle, size, folder.stat().st_mtime, folder.name in in_use))
        return found

    def _make_folders(self) -> None:
        for folder in (self._versions, self._partial, self._removed):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _is_verified(self, folder: Path, record: VersionRecord | None, changes: Changes | None) -> bool:
        """Read what seems to have changed; whether it is as it should be, which is then recorded."""
        manifest = self._manifest(folder)
        if manifest is None or (changes is not None and changes.is_foreign):
            return False
        bundle, changed = ("", set()) if record is None or changes is None else (record.bundle, changes.files)
        verified = verified_record(folder / TREE, manifest, bundle, record, changed)
        if verified is None:
            return False
        try:
            write_record(folder / RECORD, verified)
        except OSError as error:
            log.warning("bundle_record_not_written", digest=folder.name, error=str(error))
        return True

    def _manifest(self, folder: Path) -> Manifest | None:
        try:
            return open_manifest((folder / MANIFEST).read_bytes(), folder.name)
        except (OSError, ManifestRefused):
            return None

    def _folders(self) -> list[Path]:
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

    @property
    def _versions(self) -> Path:
        return self.path / "versions"

    @property
    def _partial(self) -> Path:
        return self.path / "partial"

    @property
    def _removed(self) -> Path:
        return self.path / "removed"


def _remove(folder: Path) -> None:
    try:
        if folder.is_dir() and not folder.is_symlink():
            remove_tree(folder)
        else:
            folder.unlink(missing_ok=True)
    except OSError as error:
        log.warning("bundle_not_removed", path=str(folder), error=str(error))


def _read_local(place: LocalPiece, digest: str, size: int) -> bytes | None:
    """A piece of a file of another version; None if it is not what it was."""
    *parent, name = parts_of(place.path)
    try:
        with opened_folder(place.tree) as root:
            folder = open_below(root, parent)
            try:
                file = open_file(folder, name)
            finally:
                os.close(folder)
            with os.fdopen(file, "rb", buffering=0) as opened:
                data = os.pread(opened.fileno(), size, place.offset)
    except OSError:
        return None
    return data if piece_digest(data) == digest else None
