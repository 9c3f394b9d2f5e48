"""From chunks of log files to lines. Pure.

Chunks come in the order in which they were stored; chunks of several jobs of one try are mixed only where a late upload
overlaps a new dispatch. A line keeps its number once it was shown: Airflow's log page requests lines by number.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

MAX_LINE_BYTES = 1 << 20
"""A longer line is cut, so that a file without line ends does not fill the memory."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of one job's log file.

    Attributes:
        offset: Their position in the file.
    """

    job: str
    offset: int
    data: bytes


@dataclass(slots=True)
class _File:
    """How far one job's file was read."""

    end: int = 0
    rest: bytearray = field(default_factory=bytearray)


def lines(chunks: Iterable[Chunk], *, complete: bool) -> Iterator[str]:
    """The lines of the chunks, without their ends.

    Args:
        chunks: In the order in which they were stored.
        complete: No more chunks are expected; otherwise the last line of a file is held back until its end has
            arrived, because a line that was shown is never shown again.
    """
    files: dict[str, _File] = {}
    for chunk in chunks:
        yield from _new_lines(files.setdefault(chunk.job, _File()), chunk)
    if complete:
        yield from (_text(file.rest) for file in files.values() if file.rest)


def _new_lines(file: _File, chunk: Chunk) -> Iterator[str]:
    known = file.end
    if chunk.offset > known:
        if file.rest:
            yield _text(file.rest)
            file.rest.clear()
        yield f"[{chunk.offset - known} bytes of this log are no longer stored]"
        known = chunk.offset
    fresh = chunk.data[known - chunk.offset :]
    file.end = max(known, chunk.offset + len(chunk.data))
    file.rest += fresh
    if b"\n" in fresh:
        *whole, last = file.rest.split(b"\n")
        file.rest = last
        yield from map(_text, whole)
    while len(file.rest) > MAX_LINE_BYTES:
        yield _text(file.rest[:MAX_LINE_BYTES])
        del file.rest[:MAX_LINE_BYTES]


def _text(line: bytes | bytearray) -> str:
    return line.decode(errors="replace").removesuffix("\r")
