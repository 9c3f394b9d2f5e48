"""Appends to job logs in `EDGE_LOGS`: every byte once, in order, whichever replica it comes through.

The stream itself is the cursor: each message names the offset of its bytes, so the newest message of a job's subject
gives the end of the durable log. A message is appended only after the message that was read as the newest
(expected-last-subject-sequence); an append that loses this race reads again and drops the bytes that are stored.

The files of a job's tenures follow each other. Before each file but the first, the log has a line that names the
attempt and its worker. The line belongs to no file: offsets of workers do not count it, offsets of readers do.

All messages of a log that is still written may have been removed: by their age, or, once the job has ended, to make
room. The holder's own offset is the cursor then.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from edge_broker.connection.broker import Broker
from edge_broker.jetstream.append import SequenceConflict, append
from edge_broker.jetstream.stored import last_message
from edge_broker.jetstream.stream_info import stream_info
from edge_broker.subjects import HOLDER_HEADER, LOGS, OFFSET_HEADER
from edge_relay.stores.holders import HolderEntry
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.job_calls import MAX_JOB_LOG_BYTES

CACHED_LOGS = 20_000
LOGGER = "edge_relay"
"""Of lines that no worker has written."""

OnRead = Callable[[int], None]
"""Called with the number of log bytes that were read."""


def _ignore(_: int) -> None:
    """Nobody counts them."""


class NewTenure(Exception):
    """The log so far belongs to another tenure, or nothing of it is left: the holder that is known may be outdated.

    If the caller's tenure is the newest by the record, append with the holder as it is now and with `begin=True`.
    """


@dataclass(frozen=True, slots=True)
class _Tail:
    """The end of a log.

    Attributes:
        end: Durable up to here, over all tenures.
        base: Where the newest tenure's file begins.
        tenure: The newest one; empty if there is no message.
        sequence: Of the newest message in the stream, 0 if there is none.
        mark: What is stored before the first bytes of a file that begins here.
        in_line: The newest message ended within a line when it was read.
    """

    end: int = 0
    base: int = 0
    tenure: str = ""
    sequence: int = 0
    mark: bytes = b""
    in_line: bool = False


@dataclass(slots=True)
class _Log:
    """What is known of one log.

    Attributes:
        tail: None until it was read, and again after any doubt.
        bases: Where the file of the newest tenure begins, also after the stream has removed all of it.
        users: Appends that have the lock or wait for it.
    """

    tail: _Tail | None = None
    bases: dict[str, int] = field(default_factory=dict)
    users: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class LogStore:
    """The logs of all jobs."""

    def __init__(self, broker: Broker, *, cached_logs: int = CACHED_LOGS) -> None:
        self._broker = broker
        self._cached_logs = cached_logs
        self._logs: OrderedDict[str, _Log] = OrderedDict()

    async def append(
        self, holder: HolderEntry, *, offset: int, data: bytes, on_read: OnRead = _ignore, begin: bool = False
    ) -> int:
        """Store bytes of a holder's log file that begin at `offset`; returns up to where the file is durable.

        Bytes at offsets that are durable already are dropped without a comparison: a log file only grows.

        Args:
            holder: Whose file it is.
            offset: In the file of this tenure.
            data: May be empty; the position is returned nevertheless.
            on_read: Called with the number of log bytes that had to be read to find the end.
            begin: The holder was read now, and its tenure is the newest; its file may begin here.

        Raises:
            NewTenure: See there; only if `begin` is not set.
            EdgeError: `offset_mismatch` (bytes before `offset` are missing), `payload_too_large` (the log is full).
            BrokerUnavailable: The outcome is unknown; repeat the call.
            StreamFull: There is no room; nothing was stored.
        """
        subject = holder.log_subject
        async with self._locked(subject) as log:
            if log.tail is not None and (log.tail.tenure != holder.id or offset != log.tail.end - log.tail.base):
                # Another replica has stored more, the log belongs to another tenure by now, or the call is refused or a
                # repeat: none of this is decided from memory.
                log.tail = None
            while True:
                if log.tail is None:
                    log.tail = await self._read_tail(subject, on_read)
                tail = await self._continued(log, log.tail, holder, offset, begin=begin)
                durable = tail.end - tail.base
                fresh = _beyond(durable, offset, data)
                if tail.end + len(tail.mark) + len(fresh) > MAX_JOB_LOG_BYTES:
                    text = f"the log of a job may have {MAX_JOB_LOG_BYTES} bytes; the rest is not kept"
                    raise EdgeError(ErrorCode.PAYLOAD_TOO_LARGE, text)
                if not fresh or await self._store(subject, log, tail, fresh):
                    return durable + len(fresh)

    async def _continued(self, log: _Log, tail: _Tail, holder: HolderEntry, offset: int, *, begin: bool) -> _Tail:
        """The end of the log from which this tenure continues."""
        if tail.tenure == holder.id:
            return tail
        if (tail.tenure or offset) and not begin:
            raise NewTenure
        if not tail.tenure and offset and await self._was_removed(holder):
            # The stream remembers nothing of the log, and the holder does: its offset is up to where it was stored.
            base = log.bases.get(holder.id, 0)
            return _Tail(end=base + offset, base=base, tenure=holder.id, sequence=0)
        mark = _mark(holder, in_line=tail.in_line) if tail.end else b""
        return _Tail(end=tail.end, base=tail.end, tenure=holder.id, sequence=tail.sequence, mark=mark)

    async def _was_removed(self, holder: HolderEntry) -> bool:
        """Whether what was stored may have been removed: of a job that has not ended, only together with all older."""
        if holder.ended:
            return True
        state = (await stream_info(self._broker, LOGS))["state"]
        return state["messages"] > 0 and datetime.fromisoformat(state["first_ts"]) > holder.started_at

    async def _store(self, subject: str, log: _Log, tail: _Tail, data: bytes) -> bool:
        """Append; False if another append was faster, by another replica or in a call whose answer was lost."""
        base, stored = tail.base + len(tail.mark), tail.mark + data
        headers = {OFFSET_HEADER: str(tail.end), HOLDER_HEADER: f"{base} {tail.tenure}"}
        # Until the answer arrives, and for good without one, what is known may be outdated.
        log.tail = None
        result = await append(self._broker, subject, stored, after=tail.sequence, headers=headers)
        if isinstance(result, SequenceConflict):
            return False
        log.tail = _Tail(tail.end + len(stored), base, tail.tenure, result.sequence)
        log.bases = {tail.tenure: base}
        return True

    async def _read_tail(self, subject: str, on_read: OnRead) -> _Tail:
        """The end by the newest message, read through the stream leader."""
        message = await last_message(self._broker, LOGS, subject)
        on_read(0 if message is None else len(message.data))
        if message is None:
            return _Tail()
        base, _, tenure = message.headers[HOLDER_HEADER].partition(" ")
        end = int(message.headers[OFFSET_HEADER]) + len(message.data)
        return _Tail(end, int(base), tenure, message.sequence, in_line=not message.data.endswith(b"\n"))

    @asynccontextmanager
    async def _locked(self, subject: str) -> AsyncIterator[_Log]:
        """One append at a time for each log: appends of one replica would only conflict with each other."""
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
        while len(self._logs) > self._cached_logs:
            subject, log = next(iter(self._logs.items()))
            if log.users:
                return
            del self._logs[subject]


def _mark(holder: HolderEntry, *, in_line: bool) -> bytes:
    """The line before a further attempt, in the form of a log's lines."""
    event = f"Attempt {holder.attempt} begins here: worker {holder.worker} has started the job"
    at = holder.started_at.isoformat()
    line = orjson.dumps({"timestamp": at, "level": "info", "event": event, "logger": LOGGER})
    return (b"\n" if in_line else b"") + line + b"\n"


def _beyond(durable: int, offset: int, data: bytes) -> bytes:
    """The part of the data that is not durable yet.

    Raises:
        EdgeError: `offset_mismatch`.
    """
    if offset > durable:
        text = f"the log is durable up to {durable}"
        raise EdgeError(ErrorCode.OFFSET_MISMATCH, text, expected_offset=durable)
    return data[durable - offset :]
