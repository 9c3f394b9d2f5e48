"""The manifest of a bundle's version: its files, each with the digests of its pieces. Its own digest names the version.

The same tree has the same manifest, byte for byte, whoever publishes it and whenever. Readers check it completely: what
it says about paths and sizes decides what is written to a worker's disk.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from edge_schemas.bundles.paths import collision_in, problem_of
from edge_schemas.bundles.pieces import PIECE_BYTES, make_frame, open_frame

FORMAT = 1
MAX_FILES = 20_000
MAX_BUNDLE_BYTES = 1 << 30
"""Of all files of a version: as much as a worker unpacks at most."""
MAX_MANIFEST_BYTES = 8 << 20
"""Of the canonical form. 20,000 files with paths of a hundred characters have 4 MiB."""
MAX_MANIFEST_FRAME_BYTES = 960 * 1024
"""Of the canonical form in one zstd frame, as it is stored in one message and sent."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether a text has the form of a digest: of a manifest, or of a piece."""
    return _DIGEST.fullmatch(text) is not None


class ManifestRefused(Exception):
    """This can't be the manifest of a bundle; the text explains the reason."""


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A file.

    Attributes:
        path: Relative to the bundle's folder, with `/`.
        executable: Whether its owner may execute it. No other part of its mode is kept: a worker makes all files
            readable and none writable.
        size: In bytes.
        pieces: The SHA-256 of each `PIECE_BYTES` of it, the last one shorter; an empty file has none.
    """

    path: str
    executable: bool
    size: int
    pieces: tuple[str, ...]

    def piece_size(self, number: int) -> int:
        """How many bytes the piece with this number has, from 0."""
        return min(PIECE_BYTES, self.size - number * PIECE_BYTES)


@dataclass(frozen=True)
class Manifest:
    """All files of a version, in the order of their paths. Make it with `manifest_of` or `parse_manifest`."""

    files: tuple[BundleFile, ...]

    @cached_property
    def canonical(self) -> bytes:
        """The bytes that are stored, sent and hashed."""
        files = [[file.path, int(file.executable), file.size, list(file.pieces)] for file in self.files]
        return json.dumps({"format": FORMAT, "files": files}, ensure_ascii=False, separators=(",", ":")).encode()

    @cached_property
    def digest(self) -> str:
        """The name of the version: the SHA-256 of `canonical` in hexadecimal."""
        return hashlib.sha256(self.canonical).hexdigest()

    @cached_property
    def pieces(self) -> dict[str, int]:
        """The size of each piece, in the order in which the files have them, each once."""
        return {piece: file.piece_size(number) for file in self.files for number, piece in enumerate(file.pieces)}

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def manifest_of(files: Iterable[BundleFile]) -> Manifest:
    """The manifest with these files, in any order.

    Raises:
        ManifestRefused: A path, a size or a number of files is not allowed, or two paths collide.
    """
    manifest = Manifest(tuple(sorted(files, key=lambda file: file.path.encode(errors="surrogatepass"))))
    if len(manifest.files) > MAX_FILES:
        raise ManifestRefused(f"it has {len(manifest.files)} files; {MAX_FILES} are allowed")
    for file in manifest.files:
        _check(file)
    if manifest.size > MAX_BUNDLE_BYTES:
        raise ManifestRefused(f"its files have {manifest.size} bytes; {MAX_BUNDLE_BYTES} are allowed")
    if (clash := collision_in(file.path for file in manifest.files)) is not None:
        raise ManifestRefused(f"{clash[0]!r} and {clash[1]!r} are the same file on some file systems: rename one")
    sizes: dict[str, int] = {}
    for file in manifest.files:
        for number, piece in enumerate(file.pieces):
            if sizes.setdefault(piece, file.piece_size(number)) != file.piece_size(number):
                raise ManifestRefused(f"a piece of {file.path!r} has two sizes")
    if len(manifest.canonical) > MAX_MANIFEST_BYTES:
        raise ManifestRefused(f"its list of files has more than {MAX_MANIFEST_BYTES} bytes: shorten the paths")
    return manifest


def pack_manifest(manifest: Manifest) -> bytes:
    """The frame of a manifest.

    Raises:
        ManifestRefused: It is too large for one message.
    """
    frame = make_frame(manifest.canonical, level=19)
    if len(frame) > MAX_MANIFEST_FRAME_BYTES:
        raise ManifestRefused(f"its list of files has {len(frame)} bytes; {MAX_MANIFEST_FRAME_BYTES} are allowed")
    return frame


def open_manifest(frame: bytes, digest: str) -> Manifest:
    """The manifest with this digest.

    Raises:
        ManifestRefused: The frame holds something else.
    """
    data = open_frame(frame, MAX_MANIFEST_BYTES)
    if data is None:
        raise ManifestRefused("it is no zstd frame, or it holds too much: it was damaged or altered")
    return parse_manifest(data, digest)


def parse_manifest(data: bytes, digest: str) -> Manifest:
    """The manifest with this digest.

    Raises:
        ManifestRefused: The bytes have another digest, or are not the canonical form of an allowed manifest.
    """
    if hashlib.sha256(data).hexdigest() != digest:
        raise ManifestRefused("its bytes have another digest: they were damaged or altered")
    try:
        parsed = json.loads(data)
        version = parsed["format"]
        if len(parsed["files"]) > MAX_FILES:
            raise ManifestRefused(f"it has {len(parsed['files'])} files; {MAX_FILES} are allowed")
        files = [_parse_file(*file) for file in parsed["files"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ManifestRefused("it is no manifest") from error
    if version != FORMAT:
        raise ManifestRefused(f"it has format {version!r}; this version reads format {FORMAT}: update it")
    manifest = manifest_of(files)
    if manifest.canonical != data:
        raise ManifestRefused("it is not in its canonical form")
    return manifest


def pieces_named_by(frame: bytes, digest: str) -> set[str]:
    """The digests of the pieces of the manifest with this digest, without a check of its files.

    Much faster than `open_manifest`, for those who only compare digests.

    Raises:
        ManifestRefused: The frame holds something else.
    """
    data = open_frame(frame, MAX_MANIFEST_BYTES)
    if data is None or hashlib.sha256(data).hexdigest() != digest:
        raise ManifestRefused("its bytes have another digest: they were damaged or altered")
    try:
        parsed = json.loads(data)
        if parsed["format"] != FORMAT:
            raise ManifestRefused(f"it has format {parsed['format']!r}; this version reads format {FORMAT}: update it")
        return {str(piece) for *_, pieces in parsed["files"] for piece in pieces}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ManifestRefused("it is no manifest") from error


def _parse_file(path: object, mode: object, size: object, pieces: object) -> BundleFile:
    if not isinstance(path, str) or type(size) is not int or not isinstance(pieces, list):
        raise TypeError
    if not all(isinstance(piece, str) for piece in pieces):
        raise TypeError
    return BundleFile(path, bool(mode), size, tuple(pieces))


def _check(file: BundleFile) -> None:
    if file.size < 0:
        raise ManifestRefused(f"{file.path[:200]!r} has a negative size")
    if (problem := problem_of(file.path)) is not None:
        raise ManifestRefused(f"{file.path[:200]!r}: {problem}")
    if len(file.pieces) != -(-file.size // PIECE_BYTES):
        raise ManifestRefused(f"{file.path!r} has {len(file.pieces)} pieces, which does not fit its size")
    if not all(map(is_digest, file.pieces)):
        raise ManifestRefused(f"{file.path!r} has a piece without a digest")
