"""What a small file holds, read again when the file has changed: keys are rotated while executor and keeper run."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

CHECK_EVERY_S = 1.0


class ChangingFile(Generic[T]):
    """A file and what it held when it was last read.

    Args:
        path: The file.
        read: Reads it; what it raises is raised by `get`, and the next call reads again.
    """

    def __init__(self, path: Path, read: Callable[[Path], T]) -> None:
        self.path = path
        self._read = read
        self._held: tuple[tuple[int, int, int], T] | None = None
        self._checked_at = -CHECK_EVERY_S

    async def get(self) -> T:
        """What it holds, at most a second ago."""
        if self._held is None or time.monotonic() - self._checked_at >= CHECK_EVERY_S:
            self._held = await asyncio.to_thread(self._read_if_changed, self._held)
            self._checked_at = time.monotonic()
        return self._held[1]

    def _read_if_changed(self, held: tuple[tuple[int, int, int], T] | None) -> tuple[tuple[int, int, int], T]:
        try:
            found = self.path.stat()
            version = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            return (0, 0, 0), self._read(self.path)  # raises, with its own words
        return held if held is not None and held[0] == version else (version, self._read(self.path))
