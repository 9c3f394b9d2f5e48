"""Uploads the logs of jobs while they grow. An error of the upload never affects the task."""

import asyncio
from typing import Protocol

from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.job_calls import MAX_CHUNK_DECODED_BYTES
from edge_worker.log import EventLog
from edge_worker.logs.spool import Spool
from edge_worker.relay.call_result import CallError, NoAnswer, Refused
from edge_worker.relay.client import RelayClient
from edge_worker.relay.link import Link
from edge_worker.relay.retry import Backoff, Fate, fate_of
from edge_worker.state.job_dir import JobDir

CHECK_EVERY_S = 0.3
UPLOAD_EVERY_S = 0.75
"""A line is in Airflow two seconds after it was printed. More frequent calls would only cost the relay: the log of a
trivial task is uploaded once or twice."""
FIRST_PAUSE_S = 0.5
"""After a failed upload."""
MIN_CHUNK_BYTES = 4 * 1024
"""If a chunk of this size is refused as too large, smaller chunks do not help."""
_MAX_REWINDS = 5

log = EventLog("edge_worker.logs.upload_loop")


class LoggedJob(Protocol):
    """The part of a job that the uploader uses."""

    @property
    def id(self) -> str:
        """The job's id."""

    @property
    def dir(self) -> JobDir:
        """The job's folder, which contains its log."""

    @property
    def is_gone(self) -> bool:
        """No process of the job is left: the log no longer grows."""

    async def until_gone(self) -> None:
        """Waits until no process of the job is left."""


class LogUploader:
    """Follows the logs of all jobs, each in a loop of its own."""

    def __init__(self, client: RelayClient, link: Link) -> None:
        self._client = client
        self._link = link
        # The largest body that the network path accepts, learned from refusals; the same for all logs.
        self._chunk_bytes = MAX_CHUNK_DECODED_BYTES
        self._spools: set[Spool] = set()

    def lag_bytes(self) -> int | None:
        """Bytes of the followed logs that the relay does not have yet; None if the disk can't be read."""
        try:
            return sum(spool.backlog() for spool in self._spools)
        except OSError:
            return None

    async def follow(self, job: LoggedJob) -> None:
        """Uploads until the job's process is gone and the relay has every byte, or accepts no more."""
        spool = Spool(job.dir)
        self._spools.add(spool)
        try:
            await self._follow(job, spool)
        finally:
            self._spools.discard(spool)

    async def _follow(self, job: LoggedJob, spool: Spool) -> None:
        backoff = Backoff(first_s=FIRST_PAUSE_S, cap_s=10)
        rewinds, furthest = 0, 0
        await _until_gone(job, UPLOAD_EVERY_S)
        while True:
            # Checked before the backlog: what is printed in between must not be left behind.
            was_gone = job.is_gone
            try:
                sent = await self._upload_backlog(job.id, spool)
                backoff.reset()
                if was_gone and not spool.backlog():
                    return
                await _until_gone(job, UPLOAD_EVERY_S if sent else CHECK_EVERY_S)
            except Refused as error:
                if error.code == ErrorCode.PAYLOAD_TOO_LARGE and not spool.is_cut:
                    # The relay's log is full although this one is not: an earlier tenure of the job has filled it.
                    spool.cut()
                    continue
                if spool.offset > furthest:
                    # The uploads since the last rewind succeeded: only rewinds that lead nowhere end the upload.
                    rewinds, furthest = 0, spool.offset
                rewinds = rewinds + 1 if self._rewind(spool, error) else 0
                if rewinds > _MAX_REWINDS or (rewinds == 0 and fate_of(error) is Fate.FINAL):
                    log.warning("log_upload_refused", code=error.code, reason=str(error), offset=spool.offset)
                    return
                await self._link.pause(backoff.next_pause(error))
            except CallError as error:
                log.debug("log_upload_failed", reason=str(error))
                await self._link.pause(backoff.next_pause(error))
            except OSError as error:
                log.error("log_not_readable", error=str(error))  # noqa: TRY400 - the cause is in the event
                return

    async def _upload_backlog(self, job: str, spool: Spool) -> bool:
        sent = False
        spool.chunk_bytes = min(spool.chunk_bytes, self._chunk_bytes)
        while True:
            if spool.is_at_gap:
                await self._close_gap(job, spool)
            if not (chunk := spool.next_chunk()):
                return sent
            before = spool.offset
            spool.is_sure = False
            try:
                position = await self._client.append_log(job, before, chunk)
            except CallError as error:
                if self._shrink(spool, len(chunk), error):
                    continue
                raise
            spool.adopt(position.offset)
            sent = True
            if position.offset <= before:
                return sent

    async def _close_gap(self, job: str, spool: Spool) -> None:
        """Reports the missing bytes. First asks the relay for its offset if it is uncertain: an answer may be lost."""
        if not spool.is_sure:
            spool.adopt((await self._client.append_log(job, spool.offset, b"")).offset)
        if spool.is_at_gap:
            spool.close_gap()

    def _shrink(self, spool: Spool, size: int, error: CallError) -> bool:
        """Halves the chunks after one of this size was too large; False for another error, or if they are the smallest.

        If the relay itself refuses, the log is full: the rest that fits is sent, and other logs are not affected.
        """
        is_foreign = isinstance(error, NoAnswer) and error.status == 413
        is_of_relay = isinstance(error, Refused) and error.code == ErrorCode.PAYLOAD_TOO_LARGE
        if not (is_foreign or is_of_relay) or size <= MIN_CHUNK_BYTES:
            return False
        spool.chunk_bytes = max(MIN_CHUNK_BYTES, size // 2)
        if is_foreign:
            self._chunk_bytes = min(self._chunk_bytes, spool.chunk_bytes)
        log.info("log_chunks_shortened", chunk_bytes=spool.chunk_bytes, reason=str(error))
        return True

    def _rewind(self, spool: Spool, error: Refused) -> bool:
        expected = error.problem.expected_offset
        if error.code != ErrorCode.OFFSET_MISMATCH or expected is None:
            return False
        log.info("spool_rewound", offset=spool.offset, expected_offset=expected)
        spool.adopt(expected)
        return True


async def _until_gone(job: LoggedJob, timeout_s: float) -> None:
    """Waits for so long, or until the job's process has ended."""
    try:
        async with asyncio.timeout(timeout_s):
            await job.until_gone()
    except TimeoutError:
        return
