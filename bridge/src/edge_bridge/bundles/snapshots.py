"""Copies of a bundle's files as they were published, for the dag-processor to parse: `<storage>/<bundle>/published`.

The folder itself may be changed at any moment. What is parsed is therefore a copy of what was published, reached by the
link `current`: DAG files have the same path in all versions.
"""

import os
import shutil
from pathlib import Path

from edge_bridge.bundles.hashing import ATTEMPTS, TreeHasher
from edge_bridge.bundles.refusals import TreeChanged
from edge_bridge.bundles.tree import PieceSource, make_folder, write_tree
from edge_schemas.bundles.manifest import Manifest, is_digest

_LINK = "current"


class Snapshots:
    """The copies of one bundle's versions on this machine.

    Args:
        folder: For this purpose only.
        hasher: Of the bundle.
    """

    def __init__(self, folder: Path, hasher: TreeHasher) -> None:
        self._folder = folder
        self._hasher = hasher

    @property
    def path(self) -> Path:
        """The link to the version that is shown."""
        return self._folder / _LINK

    def shown(self) -> str | None:
        """The digest of the version that is shown, also by an earlier process; None if there is none."""
        try:
            digest = self.path.readlink().name
        except OSError:
            return None
        return digest if is_digest(digest) and self.path.is_dir() else None

    def take(self, root: Path) -> Manifest:
        """Copy the files as they are now, unless this version is there.

        Raises:
            BundleRefused: They can't be published.
            TreeChanged: They were changed during each of a few attempts.
            OSError: The disk is full.
        """
        for _ in range(ATTEMPTS):
            manifest = self._hasher.manifest(root)
            copy, source = self._folder / manifest.digest, PieceSource(root, manifest)
            if copy.is_dir():
                return manifest
            try:
                make_folder(copy, lambda partial: write_tree(partial, manifest, source.read))  # noqa: B023  # at once
            except TreeChanged:
                continue
            return manifest
        raise TreeChanged(f"the files in {root} were changed while they were copied, {ATTEMPTS} times")

    def source(self, manifest: Manifest) -> PieceSource:
        """The pieces of a version that was taken."""
        return PieceSource(self._folder / manifest.digest, manifest)

    def show(self, digest: str) -> None:
        """Let the link lead to a version that was taken, and remove the others but the last one.

        Raises:
            OSError: The link can't be made.
        """
        before = self.shown()
        if before == digest:
            return
        new = self._folder / f".{_LINK}.{os.getpid()}"
        new.unlink(missing_ok=True)
        new.symlink_to(digest)
        new.replace(self.path)
        for other in self._folder.iterdir():
            if is_digest(other.name) and other.name not in {digest, before}:
                shutil.rmtree(other, ignore_errors=True)
