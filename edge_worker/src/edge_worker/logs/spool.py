"""The log of one job on disk, and how much of it the relay has.

The relay's offset decides: the offset kept here changes only with an answer of the relay, in either direction.

The relay receives the stream: the file without its gaps. A gap is where bytes were dropped before they could be
uploaded, because the log had grown too large, or where the stream ends because the centre accepts no more. A line in
the stream reports the gap. After a gap, offsets in stream and file differ; the gaps are stored next to the log, so that
the next agent computes the same offsets.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_schemas.wire.job_calls import MAX_CHUNK_DECODED_BYTES, MAX_JOB_LOG_BYTES
from edge_worker.files import write_atomically
from edge_worker.log import EventLog
from edge_worker.state.job_dir import JobDir
from edge_worker.task_host.job_files import log_line
from edge_worker.task_host.log_file import read_dropped

GAPS = "log_gaps.json"
"""File next to the log; there is none as long as stream and file are the same."""
CUT_AT_BYTES = MAX_JOB_LOG_BYTES - 4096
"""The length at which the stream is cut; leaves room for the line that reports the missing bytes."""

log = EventLog("edge_worker.logs.spool")


@dataclass(frozen=True)
class Gap:
    """A line in the stream in place of bytes of the file.

    Attributes:
        at: Where the line begins in the stream.
        line: The line.
        resume: Where in the file the stream continues after it; None if it ends there.
    """

    at: int
    line: str
    resume: int | None


class Spool:
    """Reads a growing log from the offset that is not uploaded yet.

    Attributes:
        chunk_bytes: The most that is read at once; the uploader may lower it.
        offset: In the stream, up to where the relay has it.
        is_sure: The relay has confirmed the offset, and nothing was sent since. Only then a gap may begin.
    """

    def __init__(self, job_dir: JobDir) -> None:
        self._dir = job_dir
        self._gaps = _read_gaps(job_dir.path / GAPS)
        self.chunk_bytes = MAX_CHUNK_DECODED_BYTES
        self.offset = job_dir.log_offset()
        self.is_sure = False

    def backlog(self) -> int:
        """Bytes that wait to be uploaded, or to be replaced by a line that reports them as missing."""
        line, position = self._locate()
        size = self._size()
        return len(line) + (0 if position is None else max(0, size - position))

    @property
    def is_at_gap(self) -> bool:
        """The next bytes are missing, or not wanted, and no line reports it yet."""
        line, position = self._locate()
        if line or position is None:
            return False
        is_cut = self.offset >= CUT_AT_BYTES and self._size() > position
        return is_cut or position < read_dropped(self._dir.path)

    def next_chunk(self) -> bytes:
        """The bytes to upload next, at most `chunk_bytes`; empty if there are none."""
        line, position = self._locate()
        if line or position is None:
            return line[: self.chunk_bytes]
        length = max(0, min(self._next_gap(), CUT_AT_BYTES) - self.offset)
        data = self._read(position, min(length, self.chunk_bytes))
        # Checked after the bytes were read: they may have been dropped meanwhile.
        return b"" if self.is_at_gap else data

    def close_gap(self) -> None:
        """Adds a line where bytes are missing; to be called where `is_at_gap` and `is_sure`."""
        _, position = self._locate()
        dropped = read_dropped(self._dir.path)
        if position is None:
            return
        if self.offset >= CUT_AT_BYTES:
            self.cut()
            return
        missing = dropped - position
        text = f"{missing} bytes of this log are missing here: the edge worker had no room to keep them until upload"
        log.warning("log_bytes_dropped", bytes=missing, offset=self.offset)
        self._add(text, resume=dropped)

    def cut(self) -> None:
        """Ends the stream with a line that reports that more is missing."""
        log.warning("log_cut", offset=self.offset, kept=str(self._dir.log))
        self._add("The log continues, but the centre keeps no more of it; the rest was on the edge worker", resume=None)

    @property
    def is_cut(self) -> bool:
        """The stream has ended, even if the task prints more."""
        return bool(self._gaps) and self._gaps[-1].resume is None

    def adopt(self, offset: int) -> None:
        """Takes over the offset up to which the relay has the log."""
        self.is_sure = True
        if offset != self.offset:
            self.offset = offset
            try:
                self._dir.put_log_offset(offset)
            except OSError as error:
                # The upload continues although the worker's disk is full.
                log.warning("log_offset_not_written", error=str(error))

    def _locate(self) -> tuple[bytes, int | None]:
        """The unsent part of the line at the offset, and where in the file the stream continues; None where it ends."""
        passed = [gap for gap in self._gaps if gap.at <= self.offset]
        if not passed:
            return b"", self.offset
        gap = passed[-1]
        line, inside = gap.line.encode(), self.offset - gap.at
        beyond = max(0, inside - len(line))
        return line[inside:], None if gap.resume is None else gap.resume + beyond

    def _next_gap(self) -> int:
        """Where the next line begins that the relay does not have yet."""
        return min((gap.at for gap in self._gaps if gap.at > self.offset), default=MAX_JOB_LOG_BYTES)

    def _add(self, text: str, *, resume: int | None) -> None:
        # The bytes before the gap may end in the middle of a line.
        line = ("\n" if self.offset else "") + log_line(text, "warning").decode()
        # Gaps after the relay's offset are no longer valid: the stream now continues differently.
        self._gaps = [gap for gap in self._gaps if gap.at <= self.offset] + [Gap(self.offset, line, resume)]
        content = json.dumps([asdict(gap) for gap in self._gaps]).encode()
        try:
            write_atomically(self._dir.path / GAPS, content)
        except OSError as error:
            # Without the file the next agent may repeat or miss some lines of this log.
            log.warning("log_gaps_not_written", error=str(error))

    def _size(self) -> int:
        try:
            return self._dir.log.stat().st_size
        except FileNotFoundError:
            return 0

    def _read(self, position: int, length: int) -> bytes:
        try:
            with self._dir.log.open("rb") as file:
                file.seek(position)
                return file.read(length)
        except FileNotFoundError:
            return b""


def _read_gaps(path: Path) -> list[Gap]:
    try:
        return [Gap(**fields) for fields in json.loads(path.read_bytes())]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        log.warning("log_gaps_not_readable", error=str(error))
        return []
