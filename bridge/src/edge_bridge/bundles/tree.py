"""Reads the pieces of a version from a folder that holds its files, and writes such a folder."""

import os
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edge_bridge.bundles.refusals import TreeChanged
from edge_schemas.bundles.manifest import BundleFile, Manifest
from edge_schemas.bundles.pieces import PIECE_BYTES, piece_digest

ABANDONED_S = 3600.0
"""A folder that is not finished after this time never is: publishing and fetching end earlier."""
_PARTIAL = ".partial-"
ReadPiece = Callable[[str], bytes]
"""The bytes of the piece with this digest."""


class PieceSource:
    """The pieces of a version, from a folder that has its files.

    Args:
        root: The folder.
        manifest: Of the version.
    """

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self._root = root
        self._places = {piece: place for file in manifest.files for piece, place in _places(file)}

    def read(self, digest: str) -> bytes:
        """The bytes of a piece, verified.

        Raises:
            TreeChanged: The file holds something else by now.
        """
        path, offset = self._places[digest]
        try:
            with (self._root / path).open("rb") as file:
                file.seek(offset)
                data = file.read(PIECE_BYTES)
        except OSError as error:
            raise TreeChanged(f"{path} can't be read any more: {error.strerror}") from error
        if piece_digest(data) != digest:
            raise TreeChanged(f"{path} was changed")
        return data


def write_tree(folder: Path, manifest: Manifest, read: ReadPiece) -> None:
    """Write the files of a version into a new folder, without the right to write them.

    Folders stay writable: Airflow removes versions that were not used for long, and Python adds its compiled code.

    Raises:
        OSError: The disk is full, or the folder exists.
    """
    folder.mkdir(parents=True)
    for file in manifest.files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as opened:
            for piece in file.pieces:
                opened.write(read(piece))
        path.chmod(0o555 if file.executable else 0o444)


def make_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Make a folder that appears complete or not at all, also after a power cut; an existing one stays.

    Args:
        folder: The new folder.
        write: Writes it, at the path that it is called with.

    Raises:
        OSError: The disk is full.
    """
    _remove_abandoned(folder.parent)
    partial = folder.with_name(f"{_PARTIAL}{secrets.token_hex(8)}")
    try:
        write(partial)
        os.sync()  # one call for all files: a file that is renamed, but not on the disk, would be empty later
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    """Remove what processes that were killed have left."""
    for partial in parent.glob(f"{_PARTIAL}*"):
        with suppress(FileNotFoundError):  # its process has just finished it
            if time.time() - partial.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(partial, ignore_errors=True)


def _places(file: BundleFile) -> list[tuple[str, tuple[str, int]]]:
    return [(piece, (file.path, number * PIECE_BYTES)) for number, piece in enumerate(file.pieces)]
