"""The log of one job on disk, and how much of it the relay has.

The relay's cursor is the truth: ours moves only when an answer has come, in either direction.
"""

from edge_schemas.logs import MAX_CHUNK_DECODED_BYTES, MAX_JOB_LOG_BYTES
from edge_worker.job_dir import JobDir
from edge_worker.log import EventLog

log = EventLog("edge_worker.spool")


class Spool:
    """Reads a growing log from the offset that is not uploaded yet.

    Attributes:
        chunk_bytes: The most that is read at once; whoever uploads may lower it.
    """

    def __init__(self, job_dir: JobDir) -> None:
        self._dir = job_dir
        self.chunk_bytes = MAX_CHUNK_DECODED_BYTES
        self.offset = job_dir.log_offset()

    def backlog(self) -> int:
        """Bytes that wait to be uploaded. What is beyond the longest log that a relay takes does not count."""
        try:
            size = self._dir.log.stat().st_size
        except FileNotFoundError:
            return 0
        return max(0, min(size, MAX_JOB_LOG_BYTES) - self.offset)

    def next_chunk(self) -> bytes:
        """The bytes to upload next, at most `chunk_bytes`; empty if there are none."""
        length = min(self.backlog(), self.chunk_bytes)
        if length == 0:
            return b""
        with self._dir.log.open("rb") as file:
            file.seek(self.offset)
            return file.read(length)

    def adopt(self, offset: int) -> None:
        """The relay has said up to where it has the log."""
        if offset != self.offset:
            self.offset = offset
            try:
                self._dir.put_log_offset(offset)
            except OSError as error:
                # A full disk does not keep the log from going where there is room.
                log.warning("log_offset_not_written", error=str(error))
