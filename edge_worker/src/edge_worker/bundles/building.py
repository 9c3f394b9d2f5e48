"""Makes the files of a version from pieces: those that have arrived, and those that other versions here have."""

import os
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from edge_schemas.bundles.manifest import Manifest, ManifestRefused, open_manifest
from edge_schemas.bundles.pieces import PIECE_BYTES, piece_digest
from edge_schemas.wire.base import Outbound
from edge_worker.bundles.files.folders import open_below, open_file, opened_folder, parts_of
from edge_worker.bundles.files.inventory import Inventory, verified_inventory
from edge_worker.bundles.files.tree import write_tree
from edge_worker.bundles.partial import MANIFEST, Partial
from edge_worker.files import write_atomically

TREE, ABOUT = "tree", "about.json"


@dataclass(frozen=True, slots=True)
class LocalPiece:
    """Where a version on this disk has a piece."""

    tree: Path
    path: str
    offset: int


class About(Outbound):
    """Of a version.

    Attributes:
        bundle: Of the job that it was fetched for.
        size: Bytes of all files.
    """

    bundle: str = ""
    size: int


class PiecesMissing(Exception):
    """Pieces are not here, or not what they should be."""

    def __init__(self, digests: AbstractSet[str]) -> None:
        super().__init__(f"{len(digests)} pieces")
        self.digests = digests


def read_about(folder: Path) -> About | None:
    """None if there is none that can be read."""
    try:
        return About.model_validate_json((folder / ABOUT).read_bytes())
    except (OSError, ValidationError):
        return None


def write_about(folder: Path, about: About) -> None:
    """Store what people and limits need to know of a version.

    Raises:
        OSError: The disk is full.
    """
    write_atomically(folder / ABOUT, about.model_dump_json().encode(), durable=False)


def manifest_in(version: Path) -> Manifest | None:
    """The manifest in a version's folder, which its digest names; None if it can't be read or is another one."""
    try:
        return open_manifest((version / MANIFEST).read_bytes(), version.name)
    except (OSError, ManifestRefused):
        return None


def local_pieces(versions: Iterable[Path], manifest: Manifest) -> dict[str, LocalPiece]:
    """The pieces of a version that other versions have, or an earlier tree of the same one."""
    found: dict[str, LocalPiece] = {}
    for version in versions:
        for file in () if (other := manifest_in(version)) is None else other.files:
            for number, piece in enumerate(file.pieces):
                if piece in manifest.pieces:
                    found.setdefault(piece, LocalPiece(version / TREE, file.path, number * PIECE_BYTES))
    return found


def build_tree(folder: Path, partial: Partial, manifest: Manifest, local: Mapping[str, LocalPiece]) -> Inventory:
    """Write all files, read them again, and return their inventory.

    Raises:
        PiecesMissing: These must be fetched, and not be read from `local`.
        OSError: The disk is full, or returns something else than was written.
    """
    missing: set[str] = set()

    def read(digest: str, size: int) -> bytes:
        data = partial.read(digest, size)
        if data is None and (place := local.get(digest)) is not None:
            data = _read_local(place, digest, size)
        if data is None:
            missing.add(digest)
        return bytes(size) if data is None else data

    write_tree(folder, manifest, read)
    if missing:
        raise PiecesMissing(missing)
    inventory = verified_inventory(folder, manifest)
    if inventory is None:
        raise OSError("what was written is not what is read")
    return inventory


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
            try:
                data = os.pread(file, size, place.offset)
            finally:
                os.close(file)
    except OSError:
        return None
    return data if piece_digest(data) == digest else None
