"""The pieces of a version that have arrived so far: on disk as they were sent, so that a restart continues there.

    manifest            the manifest's frame
    pieces/<digest>     a piece's frame, complete and verified when it arrived
    pieces/<digest>.<n> the beginning of a piece's frame of n bytes

Nothing here is forced to the disk: each piece is verified once more when a file is written from it.
"""

import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from edge_schemas.bundles.manifest import Manifest, ManifestRefused, open_manifest
from edge_schemas.bundles.pieces import LENGTH_BYTES, MAX_FRAME_BYTES, PIECE_BYTES, PieceRefused, open_piece
from edge_worker.bundles.unavailable import Damaged
from edge_worker.files import write_atomically

MANIFEST = "manifest"
_BEGUN = re.compile(r"(?P<digest>[0-9a-f]{64})\.(?P<size>\d{1,7})")


class Begun(NamedTuple):
    """A piece of which a part has arrived.

    Attributes:
        size: Of its whole frame.
        offset: How many bytes are there.
    """

    digest: str
    size: int
    offset: int


class Partial:
    """The folder of a version that is being fetched. Not for the event loop: each method reads or writes files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pieces = path / "pieces"

    def prepare(self) -> None:
        """Make the folder."""
        self._pieces.mkdir(mode=0o700, parents=True, exist_ok=True)

    def manifest(self, digest: str) -> Manifest | None:
        """The manifest, if it is here."""
        try:
            return open_manifest((self.path / MANIFEST).read_bytes(), digest)
        except (FileNotFoundError, ManifestRefused):
            return None

    def keep_manifest(self, frame: bytes, digest: str) -> Manifest:
        """Check a manifest that has arrived, and keep it.

        Raises:
            Damaged: It is none, or not the one of this version.
        """
        try:
            manifest = open_manifest(frame, digest)
        except ManifestRefused as error:
            raise Damaged(f"the manifest is refused: {error}") from None
        write_atomically(self.path / MANIFEST, frame, durable=False)
        return manifest

    def complete(self) -> set[str]:
        """The digests of all pieces whose frames are here."""
        return {path.name for path in self._pieces.iterdir() if not path.suffix}

    def begun(self) -> Begun | None:
        """A piece that has not arrived completely."""
        for path in sorted(self._pieces.iterdir()):
            if (found := _BEGUN.fullmatch(path.name)) is not None:
                size, offset = int(found["size"]), path.stat().st_size
                if 0 < offset < size <= MAX_FRAME_BYTES:
                    return Begun(found["digest"], size, offset)
                path.unlink()
        return None

    def read(self, digest: str, size: int) -> bytes | None:
        """The bytes of a piece; None if it is not here, or damaged and therefore removed."""
        path = self._pieces / digest
        try:
            return open_piece(path.read_bytes(), digest, size)
        except FileNotFoundError:
            return None
        except PieceRefused:
            path.unlink()
            return None

    def begin(self, digest: str, size: int, *, continues: bool) -> io.FileIO:
        """The file for the rest of a frame."""
        path = self._pieces / f"{digest}.{size}"
        flags = os.O_APPEND if continues else os.O_TRUNC | os.O_CREAT
        return io.FileIO(os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600), "wb")

    def end(self, digest: str, frame_size: int, size: int) -> None:
        """The frame has arrived completely.

        Raises:
            Damaged: It does not hold the piece; it is removed.
        """
        path = self._pieces / f"{digest}.{frame_size}"
        try:
            open_piece(path.read_bytes(), digest, size)
        except PieceRefused as error:
            path.unlink()
            raise Damaged(str(error)) from None
        path.replace(self._pieces / digest)

    def drop(self, digest: str) -> None:
        """Remove what is here of a piece."""
        for path in self._pieces.glob(f"{digest}*"):
            path.unlink()


class PiecesReader:
    """Takes the body of an answer with pieces apart, and keeps all that has arrived, also of an incomplete answer.

    Args:
        partial: Where.
        wanted: The pieces in the order in which they were asked for, each with its size.
        begun: What is here of the first one, and was left out.

    Attributes:
        pieces: How many pieces have arrived completely.
    """

    def __init__(self, partial: Partial, wanted: Mapping[str, int], begun: Begun | None) -> None:
        self._partial = partial
        self._wanted: Sequence[tuple[str, int]] = list(wanted.items())
        self._begun = begun
        self._head = bytearray()
        self._frame_size = 0
        self._left = 0
        self._file: io.FileIO | None = None
        self.pieces = 0

    @property
    def is_complete(self) -> bool:
        """Whether all pieces have arrived."""
        return self.pieces == len(self._wanted)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body.

        Raises:
            Damaged: They are not what was asked for.
            OSError: They can't be stored.
        """
        left = memoryview(chunk)
        while left:
            if self.is_complete:
                raise Damaged("the relay has sent more than the pieces that were asked for")
            if self._file is None:
                left = self._feed_head(left)
            else:
                written = self._file.write(left[: self._left])
                self._left, left = self._left - written, left[written:]
                if not self._left:
                    self._end()

    def close(self) -> None:
        """Nothing more arrives."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _feed_head(self, chunk: memoryview) -> memoryview:
        needed = LENGTH_BYTES - len(self._head)
        self._head += chunk[:needed]
        if len(self._head) == LENGTH_BYTES:
            self._begin(int.from_bytes(self._head, "big"))
            self._head.clear()
        return chunk[needed:]

    def _begin(self, frame_size: int) -> None:
        digest, size = self._wanted[self.pieces]
        begun = self._begun if self.pieces == 0 else None
        if begun is not None and begun.size != frame_size:
            self._partial.drop(digest)
            raise Damaged(f"piece {digest}: its frame had {begun.size} bytes before, and now {frame_size}")
        if not 0 < frame_size <= size + MAX_FRAME_BYTES - PIECE_BYTES:
            raise Damaged(f"piece {digest}: a frame of {frame_size} bytes")
        self._file = self._partial.begin(digest, frame_size, continues=begun is not None)
        self._frame_size = frame_size
        self._left = frame_size - (begun.offset if begun is not None else 0)

    def _end(self) -> None:
        digest, size = self._wanted[self.pieces]
        self.close()
        self._partial.end(digest, self._frame_size, size)
        self.pieces += 1
