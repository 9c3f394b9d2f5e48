"""Writes the files of a version into a new folder, read-only, each piece verified by whoever reads it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_schemas.bundles.manifest import BundleFile, Manifest
from edge_worker.bundles.folders import create_file, open_below, opened_folder, parts_of

FILE_MODE, EXECUTABLE_MODE, FOLDER_MODE = 0o444, 0o555, 0o555
BYTECODE = b"__pycache__"
"""The one folder in which tasks may write: Python keeps there what it has compiled."""

ReadPiece = Callable[[str, int], bytes]
"""The bytes of a piece with this digest and size."""


def mode_of(file: BundleFile) -> int:
    """The permissions of a file."""
    return EXECUTABLE_MODE if file.executable else FILE_MODE


def write_tree(folder: Path, manifest: Manifest, read: ReadPiece) -> None:
    """Make a folder with all files of a version.

    Args:
        folder: Must not exist.
        manifest: What to write.
        read: May raise; then the folder is incomplete.

    Raises:
        OSError: The disk is full, or the file system does not accept a name.
    """
    folder.mkdir(mode=0o700)
    with opened_folder(folder) as root:
        for parent, files in by_folder(manifest):
            with _created(root, parent) as descriptor:
                for name, file in files:
                    _write(descriptor, name, file, read)
        _seal(root, manifest)


def by_folder(manifest: Manifest) -> Iterator[tuple[tuple[bytes, ...], list[tuple[bytes, BundleFile]]]]:
    """The files of each folder that holds one: the folder's names, then the files with theirs."""
    folders: dict[tuple[bytes, ...], list[tuple[bytes, BundleFile]]] = {}
    for file in manifest.files:
        *parent, name = parts_of(file.path)
        folders.setdefault(tuple(parent), []).append((name, file))
    return iter(folders.items())


def all_folders(manifest: Manifest) -> set[tuple[bytes, ...]]:
    """All folders of a version, its own included."""
    found: set[tuple[bytes, ...]] = {()}
    for file in manifest.files:
        parent = parts_of(file.path)[:-1]
        while parent and parent not in found:
            found.add(parent)
            parent = parent[:-1]
    return found


@contextmanager
def _created(root: int, parent: tuple[bytes, ...]) -> Iterator[int]:
    descriptor = open_below(root, parent, create=True)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write(folder: int, name: bytes, file: BundleFile, read: ReadPiece) -> None:
    descriptor = create_file(folder, name)
    with os.fdopen(descriptor, "wb", buffering=0) as opened:
        for number, piece in enumerate(file.pieces):
            left = memoryview(read(piece, file.piece_size(number)))
            while left:
                left = left[opened.write(left) :]
        os.fchmod(descriptor, mode_of(file))


def _seal(root: int, manifest: Manifest) -> None:
    """Add the folders for compiled code, and make all others read-only, the inner ones first."""
    names = {parent: {name for name, _ in files} for parent, files in by_folder(manifest)}
    folders = all_folders(manifest)
    for parent in sorted(folders, key=len, reverse=True):
        here = names.get(parent, set())
        descriptor = open_below(root, parent)
        try:
            has_code = any(name.endswith(b".py") for name in here)
            if has_code and BYTECODE not in here and (*parent, BYTECODE) not in folders:
                os.mkdir(BYTECODE, 0o755, dir_fd=descriptor)
            os.fchmod(descriptor, FOLDER_MODE)
        finally:
            os.close(descriptor)
