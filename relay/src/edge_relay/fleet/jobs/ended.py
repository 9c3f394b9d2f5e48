"""Ended jobs, the newest first: what this replica saw end, then the stream of ended records, read backwards in steps.

A list reads a bounded part of the stream. A filter that matches few jobs gives short pages, with a cursor to go on.
"""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.jetstream.direct_get import read_batch
from edge_broker.jetstream.stream_info import stream_info
from edge_broker.subjects import ENDED_BUCKET, kv_stream, kv_subject
from edge_relay.dispatch.state.record_mirror import RecordMirror
from edge_relay.dispatch.state.watched_job import WatchedJob, watched_job
from edge_relay.fleet.lists.pages import bad_cursor

STEP = 250
"""Messages of one read."""
MAX_STEPS = 8
"""Reads for one page."""
MAX_STEP_BYTES = 8 << 20
READ_TIMEOUT_S = 5.0

Matches = Callable[[WatchedJob], bool]


@dataclass(frozen=True, slots=True)
class _Cursor:
    """Where a page begins.

    Attributes:
        sequence: The last one of the stream that belongs to the list: those behind it came after the first page.
        recent: Of what was seen to end, the last job that was shown; None once all were.
    """

    sequence: int
    recent: tuple[float, str] | None


class EndedJobs:
    """Lists ended jobs."""

    def __init__(self, broker: Broker, mirror: RecordMirror) -> None:
        self._broker = broker
        self._mirror = mirror
        self._stream = kv_stream(ENDED_BUCKET)

    async def page(self, matches: Matches, *, cursor: str | None, limit: int) -> tuple[list[WatchedJob], str | None]:
        """Jobs that match, and the cursor of the next page.

        Raises:
            EdgeError: `invalid_request`: the cursor is none of this list.
            BrokerUnavailable: The stream could not be read.
            JetStreamError: There is no such stream.
        """
        if cursor is None:
            last = (await stream_info(self._broker, self._stream))["state"]["last_seq"]
            at = _Cursor(last, (float("inf"), ""))
        else:
            at = _decode(cursor)
        recent = {job.id: job for job in self._mirror.ended()}
        found: list[WatchedJob] = []
        if at.recent is not None:
            rest = sorted(
                (job for job in recent.values() if _recent_key(job) < at.recent and matches(job)),
                key=_recent_key,
                reverse=True,
            )
            found = rest[:limit]
            if len(rest) >= limit:
                return found, _encode(_Cursor(at.sequence, _recent_key(found[-1])))
        sequence = at.sequence
        for _ in range(MAX_STEPS):
            if sequence <= 0:
                return found, None
            for number, job in await self._read_back(sequence):
                if job is None or job.id in recent or not matches(job):
                    continue
                found.append(job)
                if len(found) == limit:
                    return found, _encode(_Cursor(number - 1, None)) if number > 1 else None
            sequence -= STEP
        return found, _encode(_Cursor(sequence, None)) if sequence > 0 else None

    async def _read_back(self, last: int) -> list[tuple[int, WatchedJob | None]]:
        """The jobs of the messages of one step, the newest first; `last` is the newest one."""
        first = max(1, last - STEP + 1)
        after, found = first - 1, list[tuple[int, WatchedJob | None]]()
        prefix = kv_subject(ENDED_BUCKET, "")
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                while after < last:
                    batch = await read_batch(
                        self._broker,
                        self._stream,
                        kv_subject(ENDED_BUCKET, ">"),
                        after=after,
                        max_messages=last - after,
                        max_bytes=MAX_STEP_BYTES,
                    )
                    for message in batch.messages:
                        if message.sequence <= last and message.data:
                            job = message.subject.removeprefix(prefix)
                            found.append((message.sequence, watched_job(job, message.data)))
                    if not batch.more or not batch.messages:
                        break
                    after = batch.messages[-1].sequence
        except TimeoutError:
            raise BrokerUnavailable("the ended jobs could not be read in time") from None
        return found[::-1]


def _recent_key(job: WatchedJob) -> tuple[float, str]:
    return (0.0 if job.ending is None else job.ending.at, job.id)


def _encode(cursor: _Cursor) -> str:
    recent = None if cursor.recent is None else list(cursor.recent)
    return base64.urlsafe_b64encode(orjson.dumps(["ended", cursor.sequence, recent])).rstrip(b"=").decode()


def _decode(cursor: str) -> _Cursor:
    try:
        found = orjson.loads(base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_"))
    except ValueError:
        raise bad_cursor() from None
    match found:
        case ["ended", int(sequence), None] if 0 < sequence < 1 << 62:
            return _Cursor(sequence, None)
        case ["ended", int(sequence), [int() | float() as at, str(job)]] if 0 <= sequence < 1 << 62:
            return _Cursor(sequence, (at, job))
    raise bad_cursor()
