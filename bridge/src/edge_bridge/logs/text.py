"""From chunks of log files to lines. Pure.

Chunks come in the order in which they were stored; chunks of several jobs of one try are mixed only where a late upload
overlaps a new dispatch. A line keeps its number once it was shown: Airflow's log page requests lines by number.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from edge_bridge.logs.long_lines import LineBuffer


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
    rest: LineBuffer = field(default_factory=LineBuffer)


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
        yield from (_line(file.rest) for file in files.values() if file.rest)


def _new_lines(file: _File, chunk: Chunk) -> Iterator[str]:
    known = file.end
    if chunk.offset > known:
        if file.rest:
            yield _line(file.rest)
        yield f"[{chunk.offset - known} bytes of this log are no longer stored]"
        known = chunk.offset
    fresh = chunk.data[known - chunk.offset :]
    file.end = max(known, chunk.offset + len(chunk.data))
    *ends, last = fresh.split(b"\n")
    if ends:
        file.rest.add(ends[0])
        yield _line(file.rest)
        # The others are whole, and shorter than a chunk: far below the longest line.
        yield from (end.decode(errors="replace").removesuffix("\r") for end in ends[1:])
    file.rest.add(last)


def _line(rest: LineBuffer) -> str:
    return rest.take().removesuffix("\r")
