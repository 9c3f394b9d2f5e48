"""From chunks of log files to lines. Pure.

Chunks come in the order in which they were stored, those of several jobs of one try mixed at most where a late upload
meets a new dispatch. What was once a line at some place stays there: Airflow's log page asks by line number.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

MAX_LINE_BYTES = 1 << 20
"""A longer line is cut, so that a file without line ends does not fill the memory."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of one job's log file.

    Attributes:
        offset: Where they begin in the file.
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
        complete: No more is expected; else the last line of a file is held back until its end has come, because a
            line that was shown is never shown again.
    """
    files: dict[str, _File] = {}
    for chunk in chunks:
        yield from _take(files.setdefault(chunk.job, _File()), chunk)
    if complete:
        yield from (_text(file.rest) for file in files.values() if file.rest)


def _take(file: _File, chunk: Chunk) -> Iterator[str]:
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
