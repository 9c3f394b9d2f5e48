"""The log of one job: lines in memory until the relay has them. No error of the upload affects the handler."""

import asyncio
import threading

from edge_schemas.wire.errors import ErrorCode
from edge_worker.log import EventLog
from edge_worker.relay.call_result import Refused
from edge_worker.relay.client import RelayClient
from edge_worker.relay.link import Link
from edge_worker.relay.retry import until_final
from edge_worker.task_host.job_files import log_line

MAX_BYTES = 1024 * 1024
"""Of lines that wait for the relay."""
UPLOAD_EVERY_S = 0.75
MAX_CHUNK_BYTES = 128 * 1024

log = EventLog("edge_worker.client.job_log")


class JobLog:
    """The lines of one attempt, as the relay counts them: from offset 0."""

    def __init__(self, client: RelayClient, link: Link, job: str) -> None:
        self._client = client
        self._link = link
        self._job = job
        self._lock = threading.Lock()
        self._waiting = bytearray()
        self._dropped = 0
        self._offset = 0
        self._closed = asyncio.Event()

    def append(self, line: str) -> None:
        """Adds a line, or counts it if there is no room. May be called in any thread."""
        record = log_line(line, "info", logger="task.stdout")
        with self._lock:
            if len(self._waiting) + len(record) > MAX_BYTES:
                self._dropped += 1
                return
            if self._dropped:
                text = f"{self._dropped} lines were dropped: the relay did not take them in time"
                self._waiting += log_line(text, "warning", logger="task.stderr")
                self._dropped = 0
            self._waiting += record

    def close(self) -> None:
        """No line follows: `run` returns once the relay has all of them."""
        self._closed.set()

    async def run(self) -> None:
        """Uploads until closed."""
        try:
            while True:
                is_last = self._closed.is_set()
                if self._waiting:
                    await self._upload()
                elif is_last:
                    return
                if not is_last:
                    await self._until_next()
        except Refused as error:
            log.warning("payload_log_refused", job=self._job, code=error.code, reason=str(error))

    async def _until_next(self) -> None:
        try:
            async with asyncio.timeout(UPLOAD_EVERY_S):
                await self._closed.wait()
        except TimeoutError:
            return

    async def _upload(self) -> None:
        with self._lock:
            chunk = bytes(self._waiting[:MAX_CHUNK_BYTES])
        offset = self._offset
        try:
            durable = await until_final(
                lambda: self._client.append_log(self._job, offset, chunk), pause=self._link.pause
            )
            end = durable.offset
        except Refused as error:
            expected = error.problem.expected_offset
            if error.code != ErrorCode.OFFSET_MISMATCH or expected is None or expected == offset:
                raise
            end = expected
        with self._lock:
            # What the relay has beyond this chunk, or lacks before it, can't be sent from here.
            del self._waiting[: min(max(end - offset, 0), len(chunk))]
        self._offset = end
