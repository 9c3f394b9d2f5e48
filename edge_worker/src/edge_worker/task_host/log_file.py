"""The log of a job on disk, as its supervisor writes it: of limited size, and never a reason for a task to end.

What the supervisor appends keeps its offset in the file, because the agent uploads by offset. To keep the file small,
its oldest part is made a hole that takes no room, and `log_dropped` records where the hole ends. Where holes cannot be
made, what is beyond the limit is not written. Lines for which a full disk has no room are counted, and a line in their
place reports the number once there is room.
"""

import ctypes
import errno
import io
import os
from collections import deque
from pathlib import Path

from typing_extensions import Buffer, override

from edge_worker.task_host.job_files import log_line

DROPPED = "log_dropped"
"""File next to the log with the offset, in decimal, before which the log was dropped."""

_FALLOC_FL_KEEP_SIZE = 1
_FALLOC_FL_PUNCH_HOLE = 2
_MARKS = 64
"""The log is dropped in steps of about this part of what is kept."""
_KEPT_WHEN_DROPPING = 0.75


def read_dropped(folder: Path) -> int:
    """The offset before which the log was dropped; everything after it is there."""
    try:
        return int((folder / DROPPED).read_text())
    except (FileNotFoundError, ValueError):
        return 0


def drop(log: Path, until: int) -> None:
    """Frees the room of the log before an offset.

    Raises:
        OSError: The file system makes no holes, or the offset cannot be stored; nothing was dropped.
    """
    before = read_dropped(log.parent)
    _write_dropped(log.parent, until)
    with log.open("rb+") as file:
        try:
            _punch(file.fileno(), 0, until)
        except OSError:
            _write_dropped(log.parent, before)
            raise


def _write_dropped(folder: Path, until: int) -> None:
    draft = folder / f".{DROPPED}"
    draft.write_text(str(until))
    draft.replace(folder / DROPPED)


def _punch(descriptor: int, begin: int, end: int) -> None:
    fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if fallocate is None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    offset, length = ctypes.c_int64(begin), ctypes.c_int64(end - begin)
    if fallocate(descriptor, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, offset, length) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class CappedLog(io.RawIOBase):
    """A log file to append to; each call of `write` contains whole lines.

    Args:
        path: Of the log. Other processes may append to it as well.
        keep_bytes: The most that it takes on disk.
    """

    def __init__(self, path: Path, keep_bytes: int) -> None:
        super().__init__()
        self.name = str(path)
        self._path = path
        self._keep_bytes = keep_bytes
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._dropped = read_dropped(path.parent)
        # Where lines begin, so that only whole ones are dropped.
        self._marks: deque[int] = deque()
        self._lost = 0
        self._is_torn = False
        self._makes_holes = True

    @override
    def writable(self) -> bool:
        return True

    @override
    def write(self, data: Buffer, /) -> int:
        """Accepts everything, also what cannot be written."""
        line = bytes(data)
        if self._has_room() and (not self._lost or self._put(self._loss_report())):
            self._lost = 0
            if self._put(line):
                self._after(len(line))
            else:
                self._lost += len(line)
        else:
            self._lost += len(line)
        return len(line)

    @override
    def close(self) -> None:
        if not self.closed:
            if self._lost:
                self._put(self._loss_report())
            os.close(self._file)
        super().close()

    def _put(self, line: bytes) -> bool:
        """Writes a line; False if it could not be written completely."""
        unwritten = b"\n" + line if self._is_torn else line
        while unwritten:
            try:
                written = os.write(self._file, unwritten)
            except OSError:
                self._is_torn = self._is_torn or len(unwritten) < len(line)
                return False
            unwritten = unwritten[written:]
        self._is_torn = False
        return True

    def _loss_report(self) -> bytes:
        text = f"{self._lost} bytes of this log were lost: the edge worker's disk, or the room for one log, was full"
        return log_line(text, "warning")

    def _has_room(self) -> bool:
        return self._makes_holes or os.fstat(self._file).st_size < self._keep_bytes

    def _after(self, length: int) -> None:
        """Records where the line begins, and drops the oldest lines if the log is too large."""
        end = os.lseek(self._file, 0, os.SEEK_CUR)
        if not self._marks or end - length - self._marks[-1] >= self._keep_bytes // _MARKS:
            self._marks.append(end - length)
        if end - self._dropped <= self._keep_bytes or not self._makes_holes:
            return
        oldest_kept = end - int(self._keep_bytes * _KEPT_WHEN_DROPPING)
        while len(self._marks) > 1 and self._marks[0] < oldest_kept:
            self._marks.popleft()
        try:
            drop(self._path, self._marks[0])
        except OSError as error:
            # After a full disk the next line tries again. Any other error would only repeat.
            self._makes_holes = error.errno in {errno.ENOSPC, errno.EDQUOT}
        else:
            self._dropped = self._marks[0]


class BestEffortOutput(io.RawIOBase):
    """A descriptor for a supervisor's own output: accepts everything, writes what the disk and the limit allow."""

    def __init__(self, descriptor: int, keep_bytes: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._keep_bytes = keep_bytes

    @override
    def fileno(self) -> int:
        return self._descriptor

    @override
    def writable(self) -> bool:
        return True

    @override
    def write(self, data: Buffer, /) -> int:
        """Accepts everything, also what cannot be written."""
        line = bytes(data)
        try:
            if os.fstat(self._descriptor).st_size < self._keep_bytes:
                os.write(self._descriptor, line)
        except OSError:
            # There is no place left to report it.
            return len(line)
        return len(line)
