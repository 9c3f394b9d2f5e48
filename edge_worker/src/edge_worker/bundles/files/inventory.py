"""What a folder on this disk has, as a value that can be compared: a task can't leave anything behind unseen.

An inventory is kept in the agent's memory only, where no file of it can be changed. It holds the name and the state of
each file, folder and link: type, mode and inode, and of files size and times too. A task can set all of them but the
time of the last change (`ctime`), which the system sets, and which each write, rename and chmod changes.

A file that was only touched counts as changed, too: its bytes may be right now, and a process that has mapped the file
can change them later without a new time. So such a file is never noted again; new files take its place.
"""

import hashlib
import os
import stat
import struct
import time
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_schemas.bundles.manifest import BundleFile, Manifest
from edge_worker.bundles.files.folders import opened_below, opened_folder
from edge_worker.bundles.files.tree import (
    FOLDER_MODE,
    all_folders,
    by_folder,
    bytecode_folders,
    is_verified,
    mode_of,
    writable,
)

SETTLE_NS = 20_000_000
"""Longer than the clock stands still that file systems take their times from: later changes have another time."""

_STATE = struct.Struct("<IQqqQQ")


@dataclass(frozen=True)
class Inventory:
    """Of all that is in a folder.

    Attributes:
        code: A hash of names and states of all but bytecode.
        bytecode: The state of each file in a folder for bytecode, by its path below the folder.
        bytecode_folders: Their paths below the folder.
        changed_ns: When the last change of a file was, by the wall clock.
    """

    code: bytes
    bytecode: Mapping[bytes, bytes]
    bytecode_folders: frozenset[bytes]
    changed_ns: int = field(compare=False)

    def settle(self) -> None:
        """Return once further changes will have other times than those in this inventory."""
        if 0 <= time.time_ns() - self.changed_ns < SETTLE_NS:
            time.sleep(SETTLE_NS / 1e9)


def inventory_of(root: Path, bytecode: frozenset[bytes] = frozenset()) -> Inventory:
    """Take the inventory of a folder; no file is read.

    Args:
        root: The folder.
        bytecode: Paths of folders below it whose files are not code.

    Raises:
        OSError: The folder is not there, is a link, or can't be read.
    """
    code, compiled, changed_ns = hashlib.blake2b(digest_size=32), dict[bytes, bytes](), 0
    for path, found in everything_in(root):
        state = state_of(found)
        if not stat.S_ISDIR(found.st_mode):
            changed_ns = max(changed_ns, found.st_ctime_ns)
            if path.rpartition(b"/")[0] in bytecode:
                compiled[path] = state
                continue
        code.update(len(path).to_bytes(4, "big") + path + state)
    return Inventory(code.digest(), compiled, bytecode, changed_ns)


def everything_in(root: Path) -> Iterator[tuple[bytes, os.stat_result]]:
    """The path below a folder and the state of all that is in it, and of itself, in a fixed order. No link is followed.

    Raises:
        OSError: See `inventory_of`.
    """
    with opened_folder(root) as descriptor:
        yield b"", os.fstat(descriptor)
    top, waiting = os.fsencode(root), [b""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(top + b"/" + folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
        for entry in entries:
            path = folder + b"/" + entry.name if folder else entry.name
            found = entry.stat(follow_symlinks=False)
            yield path, found
            if stat.S_ISDIR(found.st_mode):
                waiting.append(path)


def state_of(found: os.stat_result) -> bytes:
    """What is noted of a file, folder or link. The times of a folder change with its bytecode, and are left out."""
    if stat.S_ISDIR(found.st_mode):
        return _STATE.pack(found.st_mode, 0, 0, 0, found.st_ino, found.st_dev)
    times = found.st_mtime_ns, found.st_ctime_ns
    return _STATE.pack(found.st_mode, found.st_size, *times, found.st_ino, found.st_dev)


def compared(root: Path, known: Inventory) -> Inventory | None:
    """The inventory that holds now; None if code was changed, added, moved or removed.

    Bytecode that is not as it was noted is removed: it is made again.
    """
    try:
        found = inventory_of(root, known.bytecode_folders)
        if found.code != known.code:
            return None
        if found == known:
            return known
        kept = {path: state for path, state in known.bytecode.items() if found.bytecode.get(path) == state}
        with opened_folder(root) as descriptor:
            for folder in sorted({path.rpartition(b"/")[0] for path in found.bytecode.keys() - kept.keys()}):
                _remove_files(descriptor, folder, kept)
    except OSError:
        return None
    return known if kept == known.bytecode else replace(known, bytecode=kept)


def verified_inventory(root: Path, manifest: Manifest) -> Inventory | None:
    """The inventory of a folder that holds what the manifest says, and no bytecode; None if it holds anything else.

    All files are read. Bytecode is removed: nothing says what it was compiled from.
    """
    folders = bytecode_folders(manifest)
    try:
        if not _has_all(root, manifest, folders):
            return None
        with opened_folder(root) as descriptor:
            for folder in folders:
                _remove_files(descriptor, folder)
            before = inventory_of(root, folders)
            before.settle()
            if not all(_verify(descriptor, folder, files) for folder, files in by_folder(manifest)):
                return None
        return before if inventory_of(root, folders) == before else None
    except OSError:
        return None


def _has_all(root: Path, manifest: Manifest, bytecode: frozenset[bytes]) -> bool:
    """Whether all files and folders are there, and nothing else but files with bytecode. Modes are put right."""
    wanted = {file.path.encode(): stat.S_IFREG | mode_of(file) for file in manifest.files}
    wanted |= {b"/".join(folder): stat.S_IFDIR | FOLDER_MODE for folder in all_folders(manifest)}
    wanted |= dict.fromkeys(bytecode, stat.S_IFDIR | FOLDER_MODE)
    for path, found in everything_in(root):
        mode = wanted.pop(path, None)
        if mode is None:
            if path.rpartition(b"/")[0] in bytecode and stat.S_ISREG(found.st_mode):
                continue
            return False
        if stat.S_IFMT(mode) != stat.S_IFMT(found.st_mode):
            return False
        if mode != found.st_mode:
            Path(root, os.fsdecode(path)).chmod(stat.S_IMODE(mode))
    return not wanted


def _remove_files(root: int, folder: bytes, kept: Container[bytes] = ()) -> None:
    """Remove the files of a folder for bytecode, all but those whose paths are in `kept`."""
    with writable(root, tuple(folder.split(b"/"))) as descriptor:
        with os.scandir(descriptor) as entries:
            names = [os.fsencode(entry.name) for entry in entries]
        for name in names:
            if folder + b"/" + name not in kept:
                os.unlink(name, dir_fd=descriptor)


def _verify(root: int, folder: tuple[bytes, ...], files: list[tuple[bytes, BundleFile]]) -> bool:
    """Read the files of a folder; whether they hold what they should."""
    with opened_below(root, folder) as descriptor:
        return all(is_verified(descriptor, name, file) for name, file in files)
