"""The output of a command, line by line, in the job's log."""

import os
from typing import Protocol

from edge_worker.task_host.job_files import log_line

MAX_LINE_BYTES = 1024 * 1024
"""A longer line becomes several."""
_CHUNK = 64 * 1024


class Sink(Protocol):
    """Where lines go; `CappedLog`."""

    def write(self, data: bytes, /) -> int:
        """Accepts whole lines."""


class OutputStream:
    """One of the two outputs of a command.

    Args:
        descriptor: The read end of its pipe; not blocking.
        log: The job's log.
        name: `stdout` or `stderr`.
    """

    def __init__(self, descriptor: int, log: Sink, name: str) -> None:
        self.descriptor = descriptor
        self._log = log
        self._name = name
        self._level = "info" if name == "stdout" else "error"
        self._rest = bytearray()

    def read(self) -> bool:
        """Moves what has arrived to the log; False once the output is closed."""
        try:
            data = os.read(self.descriptor, _CHUNK)
        except BlockingIOError:
            return True
        if not data:
            self.finish()
            return False
        self._rest += data
        *lines, rest = self._rest.split(b"\n")
        while len(rest) >= MAX_LINE_BYTES:
            lines.append(rest[:MAX_LINE_BYTES])
            rest = rest[MAX_LINE_BYTES:]
        self._rest = bytearray(rest)
        if lines:
            self._log.write(b"".join(map(self._record, lines)))
        return True

    def finish(self) -> None:
        """Moves an incomplete last line to the log."""
        if self._rest:
            self._log.write(self._record(self._rest))
            self._rest.clear()

    def _record(self, line: bytes | bytearray) -> bytes:
        text = bytes(line).removesuffix(b"\r").decode(errors="backslashreplace")
        return log_line(text, self._level, logger=f"task.{self._name}")
