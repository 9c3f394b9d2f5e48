"""What the files of a version on this disk were when it was made, and what was changed since.

Size, times and inode of each file are noted once the file is verified. A file that still has them is not read again.
After a boot all files count as changed: no file was forced to the disk, and a power cut may have lost a part of it.
"""

import contextlib
import os
import stat
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from uuid import uuid4

from pydantic import ValidationError

from edge_schemas.bundles.manifest import BundleFile, Manifest
from edge_schemas.bundles.pieces import PIECE_BYTES, piece_digest
from edge_schemas.wire.base import Outbound
from edge_worker.bundles.folders import open_below, open_file, opened_folder, parts_of
from edge_worker.bundles.tree import BYTECODE, FOLDER_MODE, all_folders, by_folder, mode_of
from edge_worker.files import write_atomically
from edge_worker.task_host.job_files import boot_id

FileState = tuple[int, int, int, int, int]
"""Mode, size, `mtime_ns`, `ctime_ns` and inode."""


class Inventory(Outbound):
    """Kept next to a version's files as `inventory.json`.

    Attributes:
        bundle: Of the job that it was fetched for.
        size: Bytes of all files.
        boot: The boot in which all files were verified; see `this_boot`.
        files: The state of each file by its path.
    """

    bundle: str
    size: int
    boot: str
    files: dict[str, FileState]


@cache
def this_boot() -> str:
    """Identifies the boot of the machine; where the system does not name it, this run of the agent."""
    return boot_id() or uuid4().hex


def read_inventory(path: Path) -> Inventory | None:
    """The inventory; None if there is none that can be read."""
    try:
        return Inventory.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def write_inventory(path: Path, inventory: Inventory) -> None:
    """Store an inventory.

    Raises:
        OSError: The disk is full.
    """
    write_atomically(path, inventory.model_dump_json().encode(), durable=False)


@dataclass
class Changes:
    """What differs from the inventory.

    Attributes:
        files: Paths of files to be read again.
        is_foreign: Something is there that the version does not have, or a file is missing.
    """

    files: set[str] = field(default_factory=set)
    is_foreign: bool = False

    def __bool__(self) -> bool:
        return self.is_foreign or bool(self.files)


def changes_in(tree: Path, inventory: Inventory) -> Changes:
    """Compare the files on disk with their inventory, without reading them."""
    found = Changes()
    expected: dict[tuple[bytes, ...], dict[bytes, str | None]] = {(): {}}
    for path in inventory.files:
        parts = parts_of(path)
        expected.setdefault(parts[:-1], {})[parts[-1]] = path
        while (parts := parts[:-1]) and parts[-1] not in expected.setdefault(parts[:-1], {}):
            expected[parts[:-1]][parts[-1]] = None
    try:
        with opened_folder(tree) as root:
            for folder, names in expected.items():
                _compare(root, folder, names, inventory, found)
    except OSError:
        found.is_foreign = True
    if inventory.boot != this_boot():
        found.files = set(inventory.files)
    return found


def _compare(
    root: int, folder: tuple[bytes, ...], names: dict[bytes, str | None], inventory: Inventory, found: Changes
) -> None:
    """Compare one folder.

    Raises:
        OSError: It is not there.
    """
    descriptor = open_below(root, folder)
    try:
        left = dict(names)
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != FOLDER_MODE:
            os.fchmod(descriptor, FOLDER_MODE)
        with os.scandir(descriptor) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                if name not in left:
                    found.is_foreign |= name != BYTECODE or not entry.is_dir(follow_symlinks=False)
                elif (path := left.pop(name)) is None:
                    found.is_foreign |= not entry.is_dir(follow_symlinks=False)
                elif state_of(entry.stat(follow_symlinks=False)) != inventory.files[path]:
                    found.files.add(path)
        found.is_foreign |= bool(left)
    finally:
        os.close(descriptor)


def verified_inventory(
    tree: Path,
    manifest: Manifest,
    bundle: str,
    known: Inventory | None = None,
    changed: AbstractSet[str] = frozenset(),
) -> Inventory | None:
    """An inventory of a tree that holds what the manifest says; None if it does not.

    Args:
        tree: The folder.
        manifest: Of the version.
        bundle: See `Inventory`.
        known: An earlier inventory: of its files only those in `changed` are read. None reads all files.
        changed: Paths.
    """
    states = {} if known is None else {path: state for path, state in known.files.items() if path not in changed}
    try:
        with opened_folder(tree) as root:
            for folder, files in by_folder(manifest):
                unread = [(name, file) for name, file in files if file.path not in states]
                if not _verify(root, folder, unread, states):
                    return None
            if known is None or known.boot != this_boot():
                _drop_bytecode(root, manifest)
    except OSError:
        return None
    inventory = Inventory(bundle=bundle, size=manifest.size, boot=this_boot(), files=states)
    return None if changes_in(tree, inventory) else inventory


def _verify(
    root: int, folder: tuple[bytes, ...], files: list[tuple[bytes, BundleFile]], states: dict[str, FileState]
) -> bool:
    """Read files of a folder, and note their states; False if one of them is not what it should be."""
    descriptor = open_below(root, folder)
    try:
        for name, file in files:
            if (state := _verified(descriptor, name, file)) is None:
                return False
            states[file.path] = state
    finally:
        os.close(descriptor)
    return True


def _verified(folder: int, name: bytes, file: BundleFile) -> FileState | None:
    """The state of a file that holds what it should; None for any other."""
    descriptor = open_file(folder, name)
    with os.fdopen(descriptor, "rb", buffering=0) as opened:
        if os.fstat(descriptor).st_size != file.size:
            return None
        for piece in file.pieces:
            if piece_digest(opened.read(PIECE_BYTES)) != piece:
                return None
        os.fchmod(descriptor, mode_of(file))
        return state_of(os.fstat(descriptor))


def _drop_bytecode(root: int, manifest: Manifest) -> None:
    """Remove what Python has compiled: a power cut may have damaged it, and Python would not notice."""
    folders = all_folders(manifest)
    for folder in folders:
        if (*folder, BYTECODE) in folders:  # the version's own
            continue
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            descriptor = open_below(root, (*folder, BYTECODE))
            try:
                _empty(descriptor)
            finally:
                os.close(descriptor)


def _empty(folder: int) -> None:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]
    for name in names:
        os.unlink(name, dir_fd=folder)


def state_of(found: os.stat_result) -> FileState:
    """What is noted of a file."""
    return found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
