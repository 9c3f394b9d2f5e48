"""Makes the manifest of a bundle's folder. Files that have not changed since the last time are not read again."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from edge_bridge.bundles.listing import FileState, Limits, ListedFile, list_files, state_of
from edge_bridge.bundles.refusals import BundleRefused, TreeChanged
from edge_schemas.bundles.manifest import BundleFile, Manifest, ManifestRefused, manifest_of
from edge_schemas.bundles.pieces import PIECE_BYTES, piece_digest

ATTEMPTS = 3
RECENT_NS = 2_000_000_000
"""A file that was changed so shortly before it was read is read again next time: clocks of file systems are coarse, and
a change within the same tick would leave its state as it was."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What was read of a file."""

    state: FileState
    pieces: tuple[str, ...]
    is_settled: bool


class TreeHasher:
    """Hashes one folder again and again. Not for two threads at once.

    Args:
        limits: How large it may be; they also bound what is remembered of it.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known: dict[Path, _Known] = {}

    def manifest(self, root: Path) -> Manifest:
        """The manifest of the files as they are now.

        Raises:
            BundleRefused: They can't be published.
            TreeChanged: They were changed during each of a few attempts.
        """
        for _ in range(ATTEMPTS):
            listed = list_files(root, self._limits)
            try:
                is_new = self._read(listed)
            except TreeChanged:
                continue
            # A file may have been changed after it was read, while another one was: a version mixed of two states.
            if not is_new or _states(list_files(root, self._limits)) == _states(listed):
                return self._manifest(listed)
        raise TreeChanged(f"the files in {root} were changed while they were read, {ATTEMPTS} times")

    def _read(self, listed: list[ListedFile]) -> bool:
        """Read the files that are not known; returns whether there were any."""
        known: dict[Path, _Known] = {}
        is_new = False
        for file in listed:
            before = self._known.get(file.real_path)
            if before is not None and before.is_settled and before.state == file.state:
                known[file.real_path] = before
            elif file.real_path not in known:
                known[file.real_path] = _hash(file)
                is_new = True
        self._known = known
        return is_new

    def _manifest(self, listed: list[ListedFile]) -> Manifest:
        files = (
            BundleFile(file.path, file.executable, file.state.size, self._known[file.real_path].pieces)
            for file in listed
        )
        try:
            return manifest_of(files)
        except ManifestRefused as error:
            raise BundleRefused(str(error)) from error


def _hash(file: ListedFile) -> _Known:
    """Read a file.

    Raises:
        BundleRefused: It can't be read.
        TreeChanged: It was changed meanwhile.
    """
    now = time.time_ns()
    try:
        with file.real_path.open("rb", buffering=0) as opened:
            pieces = []
            while data := opened.read(PIECE_BYTES):
                pieces.append(piece_digest(data))
            after = state_of(os.fstat(opened.fileno()))
    except FileNotFoundError as error:
        raise TreeChanged(f"{file.path} disappeared") from error
    except OSError as error:
        raise BundleRefused(
            f"{file.path} can't be read: {error.strerror}. Its reader is user {os.geteuid()}"
        ) from error
    if after != file.state:
        raise TreeChanged(f"{file.path} was changed")
    return _Known(after, tuple(pieces), now - max(after.mtime_ns, after.ctime_ns) > RECENT_NS)


def _states(listed: list[ListedFile]) -> set[ListedFile]:
    return set(listed)
