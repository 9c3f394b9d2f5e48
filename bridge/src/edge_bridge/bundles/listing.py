"""Lists the files of a bundle's folder that are published, without reading them.

A symbolic link is published as what it points to. One that leads out of the folder would publish files that were not
meant to be published, and one to a folder that holds it has no end: both are refused.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from edge_bridge.bundles.ignore import IGNORE_FILE, IgnoreRules, read_rules
from edge_bridge.bundles.refusals import BundleRefused, TreeChanged
from edge_schemas.bundles.manifest import MAX_BUNDLE_BYTES, MAX_FILES

_NAMED = 5
"""So many files an error names."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a bundle may be.

    Attributes:
        max_bytes: Of all files.
        max_files: How many.
    """

    max_bytes: int = 256 << 20
    max_files: int = 10_000

    def __post_init__(self) -> None:
        if not 0 < self.max_bytes <= MAX_BUNDLE_BYTES or not 0 < self.max_files <= MAX_FILES:
            raise ValueError(
                f"a bundle may have 1 to {MAX_FILES} files with 1 to {MAX_BUNDLE_BYTES} bytes: "
                f"max_files is {self.max_files}, max_bytes is {self.max_bytes}"
            )


class FileState(NamedTuple):
    """As long as these are the same, so is the file's content."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file that is published.

    Attributes:
        path: Relative to the bundle's folder, with `/`.
        real_path: Of the file itself, which is no link.
    """

    path: str
    real_path: Path
    executable: bool
    state: FileState


def list_files(root: Path, limits: Limits) -> list[ListedFile]:
    """The files of a bundle, in no order.

    Args:
        root: The bundle's folder; may be a link to it.
        limits: How large it may be.

    Raises:
        BundleRefused: Something in it can't be published, or it is too large.
        TreeChanged: A file disappeared meanwhile.
    """
    try:
        real_root = root.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise BundleRefused(f"{root} can't be read: {error}") from error
    walk = _Walk(real_root, read_rules(real_root), limits)
    found = list(walk.files(real_root, "", frozenset({real_root})))
    if walk.problems:
        raise BundleRefused(_listed(walk.problems))
    size = sum(file.state.size for file in found)
    if size > limits.max_bytes:
        largest = sorted(found, key=lambda file: file.state.size, reverse=True)[:_NAMED]
        names = ", ".join(f"{file.path} ({file.state.size:,} bytes)" for file in largest)
        raise BundleRefused(
            f"its files have {size:,} bytes, more than max_bytes = {limits.max_bytes:,}. The largest are {names}. Name "
            f"what tasks do not need in {IGNORE_FILE}, or raise max_bytes (or [edge_relay] bundle_max_bytes)"
        )
    return found


@dataclass
class _Walk:
    """One walk through a bundle.

    Attributes:
        problems: What can't be published.
    """

    root: Path
    rules: IgnoreRules
    limits: Limits
    problems: list[str] = field(default_factory=list)
    _entries: int = 0

    def files(self, folder: Path, prefix: str, above: frozenset[Path]) -> Iterator[ListedFile]:
        """The files in a folder and below.

        Args:
            folder: Its real path.
            prefix: How paths in it begin.
            above: The folder and those that it was reached through.
        """
        try:
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries)
        except FileNotFoundError as error:
            raise TreeChanged(f"folder {prefix or '.'} disappeared") from error
        except OSError as error:
            self.problems.append(f"folder {prefix or '.'} can't be read: {error.strerror}")
            return
        for name in names:
            yield from self._entry(folder / name, f"{prefix}{name}", above)

    def _entry(self, path: Path, published: str, above: frozenset[Path]) -> Iterator[ListedFile]:
        try:
            real, status = self._resolved(path, published)
        except FileNotFoundError as error:
            raise TreeChanged(f"{published} disappeared") from error
        if real is None or status is None:
            return
        if stat.S_ISDIR(status.st_mode):
            if not self.rules.ignores(published, is_folder=True):
                self._count()
                yield from self._folder(real, published, above)
        elif not self.rules.ignores(published, is_folder=False):
            self._count()
            if stat.S_ISREG(status.st_mode):
                yield ListedFile(published, real, bool(status.st_mode & stat.S_IXUSR), state_of(status))
            else:
                self.problems.append(f"{published} is neither a file nor a folder")

    def _folder(self, real: Path, published: str, above: frozenset[Path]) -> Iterator[ListedFile]:
        if real in above:
            self.problems.append(f"{published} is a link to a folder that holds it")
        else:
            yield from self.files(real, f"{published}/", above | {real})

    def _resolved(self, path: Path, published: str) -> tuple[Path | None, os.stat_result | None]:
        """Real path and status; None for a link that can't be published, which is noted unless it is ignored."""
        status = path.lstat()
        if not stat.S_ISLNK(status.st_mode):
            return path, status
        problem = None
        try:
            real = path.resolve(strict=True)
            if real.is_relative_to(self.root):
                return real, real.stat()
            problem = f"{published} is a link that leads out of the bundle"
        except (OSError, RuntimeError):  # RuntimeError is a loop, before Python 3.13
            problem = f"{published} is a link that leads nowhere"
        ignored = any(self.rules.ignores(published, is_folder=is_folder) for is_folder in (True, False))
        if not ignored:
            self.problems.append(problem)
        return None, None

    def _count(self) -> None:
        """Also folders count: links among them can multiply."""
        self._entries += 1
        if self._entries > self.limits.max_files:
            raise BundleRefused(
                f"it has more files and folders than max_files = {self.limits.max_files:,}. Name what tasks do not "
                f"need in {IGNORE_FILE}, or raise max_files (or [edge_relay] bundle_max_files)"
            )


def state_of(status: os.stat_result) -> FileState:
    """The state of a file."""
    return FileState(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


def _listed(problems: list[str]) -> str:
    more = len(problems) - _NAMED
    text = "; ".join(problems[:_NAMED]) + (f"; and {more} more" if more > 0 else "")
    them = "it" if len(problems) == 1 else "them"
    return f"{text}. Remove {them}, or name {them} in {IGNORE_FILE}"
