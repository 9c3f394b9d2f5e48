"""Appends to job logs in `EDGE_LOGS`: every byte once, in order, whichever replica it comes through.

The stream itself is the cursor: each message says where its bytes begin, so the newest message of a job's subject
says up to where the log is durable. A message is appended only behind the one that was seen as the newest
(expected-last-subject-sequence); whoever loses that race reads again and trims what is there already.
"""

import asyncio
import base64
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import compat32

from edge_schemas.broker.bucket import NO_MESSAGE, WRONG_LAST_SEQUENCE
from edge_schemas.broker.connection import Broker, JetStreamError
from edge_schemas.errors import EdgeError, ErrorCode
from edge_schemas.logs import MAX_JOB_LOG_BYTES
from edge_schemas.subjects import LOGS, OFFSET_HEADER

CACHED_JOBS = 20_000
_PREAMBLE = b"NATS/1.0\r\n"


@dataclass(slots=True)
class _Log:
    """What is known of one log.

    Attributes:
        end: Durable up to here; None until it was read, and again after any doubt.
        sequence: Of the newest message in the stream, 0 if there is none.
        users: Appends that hold or wait for the lock.
    """

    end: int | None = None
    sequence: int = 0
    users: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class LogStore:
    """The logs of all jobs."""

    def __init__(self, broker: Broker, *, cached_jobs: int = CACHED_JOBS) -> None:
        self._broker = broker
        self._cached_jobs = cached_jobs
        self._logs: OrderedDict[str, _Log] = OrderedDict()

    async def append(self, subject: str, offset: int, data: bytes) -> int:
        """Store bytes of a log that begin at `offset`; returns the offset up to which the log is durable.

        Bytes that are durable already are dropped, whatever they are: a log file only grows.

        Raises:
            EdgeError: `offset_mismatch` (bytes before `offset` are missing), `payload_too_large` (the log is full).
            BrokerUnavailable: The outcome is unknown; repeat it.
        """
        if offset + len(data) > MAX_JOB_LOG_BYTES:
            raise EdgeError(
                ErrorCode.PAYLOAD_TOO_LARGE, f"the log of a job may have {MAX_JOB_LOG_BYTES} bytes; the rest is not kept"
            )
        async with self._locked(subject) as log:
            while True:
                end = await self._end(subject, log)
                if offset > end:
                    raise EdgeError(
                        ErrorCode.OFFSET_MISMATCH, f"the log is durable up to {end}", expected_offset=end
                    )
                fresh = data[end - offset :]
                if not fresh or await self._store(subject, log, end, fresh):
                    return end + len(fresh)

    async def _end(self, subject: str, log: _Log) -> int:
        if log.end is None:
            end, log.sequence = await self._read_end(subject)
            log.end = end
        return log.end

    async def _store(self, subject: str, log: _Log, end: int, data: bytes) -> bool:
        """Append; False if another replica was faster, or this one in a call whose answer was lost."""
        headers = {OFFSET_HEADER: str(end), "Nats-Expected-Last-Subject-Sequence": str(log.sequence)}
        # Until the answer is there, and for good if none comes, what is known may be behind.
        log.end = None
        try:
            sequence = await self._broker.store(subject, data, headers)
        except JetStreamError as error:
            if error.code != WRONG_LAST_SEQUENCE:
                raise
            return False
        log.end, log.sequence = end + len(data), sequence
        return True

    async def _read_end(self, subject: str) -> tuple[int, int]:
        """End and sequence of the newest message, from the stream leader."""
        try:
            answer = await self._broker.api(f"STREAM.MSG.GET.{LOGS}", {"last_by_subj": subject})
        except JetStreamError as error:
            if error.code == NO_MESSAGE:
                return 0, 0
            raise
        message = answer["message"]
        raw = base64.b64decode(message.get("hdrs", "")).removeprefix(_PREAMBLE)
        offset = BytesParser(policy=compat32).parsebytes(raw, headersonly=True)[OFFSET_HEADER]
        return int(offset) + len(base64.b64decode(message.get("data", ""))), int(message["seq"])

    @asynccontextmanager
    async def _locked(self, subject: str) -> AsyncIterator[_Log]:
        """One append at a time for each log: those of one replica would only trip over one another."""
        log = self._logs.setdefault(subject, _Log())
        self._logs.move_to_end(subject)
        log.users += 1
        try:
            async with log.lock:
                yield log
        finally:
            log.users -= 1
            self._evict()

    def _evict(self) -> None:
        while len(self._logs) > self._cached_jobs:
            subject, log = next(iter(self._logs.items()))
            if log.users:
                return
            del self._logs[subject]
