"""Writes the files of a version into a new folder, read-only, each piece verified by whoever reads it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_schemas.bundles.manifest import BundleFile, Manifest
from edge_schemas.bundles.pieces import PIECE_BYTES, piece_digest
from edge_worker.bundles.files.folders import create_file, open_file, opened_below, opened_folder, parts_of

FILE_MODE, EXECUTABLE_MODE, FOLDER_MODE = 0o444, 0o555, 0o555
BYTECODE = b"__pycache__"
"""The folder in which Python looks for what the sources next to it were compiled to."""

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
            with opened_below(root, parent, create=True) as descriptor:
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


def _write(folder: int, name: bytes, file: BundleFile, read: ReadPiece) -> None:
    descriptor = create_file(folder, name)
    with os.fdopen(descriptor, "wb", buffering=0) as opened:
        for number, piece in enumerate(file.pieces):
            left = memoryview(read(piece, file.piece_size(number)))
            while left:
                left = left[opened.write(left) :]
        os.fchmod(descriptor, mode_of(file))


def _seal(root: int, manifest: Manifest) -> None:
    """Add the folders for bytecode, and make all read-only, the inner ones first."""
    bytecode = {tuple(path.split(b"/")) for path in bytecode_folders(manifest)}
    for folder in sorted({*all_folders(manifest), *bytecode}, key=len, reverse=True):
        with opened_below(root, folder, create=folder in bytecode) as descriptor:
            os.fchmod(descriptor, FOLDER_MODE)


def bytecode_folders(manifest: Manifest) -> frozenset[bytes]:
    """The paths of the folders that a version gets for bytecode: where there is code, and the version has none."""
    folders = all_folders(manifest)
    paths = {file.path.encode() for file in manifest.files}
    with_code = {parts_of(file.path)[:-1] for file in manifest.files if file.path.endswith(".py")}
    found = {(*folder, BYTECODE) for folder in with_code} - folders
    return frozenset({b"/".join(folder) for folder in found} - paths)


@contextmanager
def writable(root: int, folder: tuple[bytes, ...]) -> Iterator[int]:
    """The descriptor of a folder that can be written until this context ends."""
    with opened_below(root, folder) as descriptor:
        os.fchmod(descriptor, 0o755)
        try:
            yield descriptor
        finally:
            os.fchmod(descriptor, FOLDER_MODE)


def is_verified(folder: int, name: bytes, file: BundleFile) -> bool:
    """Read a file; whether it holds what the manifest says.

    Raises:
        OSError: It is not there, or can't be read.
    """
    with os.fdopen(open_file(folder, name), "rb", buffering=0) as opened:
        pieces = (piece_digest(opened.read(PIECE_BYTES)) for _ in file.pieces)
        return os.fstat(opened.fileno()).st_size == file.size and tuple(pieces) == file.pieces


def read_file(root: Path, file: BundleFile) -> bytes | None:
    """The content of a file of a version; None if it is not what the manifest says."""
    *folder, name = parts_of(file.path)
    try:
        with (
            opened_folder(root) as descriptor,
            opened_below(descriptor, folder) as inner,
            os.fdopen(open_file(inner, name), "rb") as opened,
        ):
            content = opened.read(file.size + 1)
    except OSError:
        return None
    pieces = tuple(piece_digest(content[at : at + PIECE_BYTES]) for at in range(0, len(content), PIECE_BYTES))
    return content if pieces == file.pieces else None
