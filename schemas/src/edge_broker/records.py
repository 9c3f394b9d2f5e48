"""Job records in JetStream: created once, changed only by `transition()` and compare-and-swap."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from edge_broker.bucket import Bucket, RevisionConflict
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.subjects import RECORDS_BUCKET
from edge_schemas.life.events import Event
from edge_schemas.life.model import ENDED_RECORD_LIFE, JobRecord, JobState
from edge_schemas.life.transition import transition

PATIENCE_S = 8.0
"""How long a change is retried while the broker elects a leader (5 to 9 s when one dies unplanned)."""


BeforeChange = Callable[[JobRecord, JobRecord], Awaitable[None]]
"""Awaited with the current record and its successor."""


class DispatchSeen(Exception):
    """There is a record of this dispatch already: its id was used before."""


class RecordStore:
    """The records of all jobs, read through the stream leader."""

    def __init__(self, broker: Broker, *, patience_s: float = PATIENCE_S) -> None:
        self._bucket = Bucket(broker, RECORDS_BUCKET)
        self._patience_s = patience_s

    async def get(self, job: str) -> JobRecord | None:
        """The record of a job; None if there is none, or no longer.

        Raises:
            BrokerUnavailable: No answer within the patience.
        """
        retry = _Retry(self._patience_s)
        while True:
            try:
                stored = await self._bucket.get(job)
            except BrokerUnavailable as error:
                await retry.pause(error)
            else:
                return _parse(stored.value)

    async def create(self, record: JobRecord) -> None:
        """Store the record of a new dispatch. A repeat after an unknown outcome succeeds.

        Raises:
            DispatchSeen: Another record with this id exists or existed recently.
            BrokerUnavailable: The outcome is unknown; repeat it.
        """
        try:
            await self._bucket.put(record.id, _dump(record), revision=0)
        except RevisionConflict:
            stored = await self._bucket.get(record.id)
            if _parse(stored.value) != record:
                raise DispatchSeen(record.id) from None

    async def change(self, job: str, event: Event, *, first: BeforeChange | None = None) -> tuple[JobRecord, JobRecord]:
        """Apply an event; returns the record before and after, the same object if nothing changed.

        Args:
            job: Its id.
            event: What happened.
            first: Awaited before each swap; if it raises, nothing changes. The swap may still fail because another
                change was faster, so its effect must be harmless then.

        Raises:
            EdgeError: `transition` or `first` rejected the change.
            BrokerUnavailable: The outcome is unknown; repeat it: events may be repeated.
        """
        retry = _Retry(self._patience_s)
        while True:
            try:
                stored = await self._bucket.get(job)
                before = _parse(stored.value)
                after = transition(before, event)
                assert before is not None  # noqa: S101  # transition() refuses None
                if after is not before:
                    if first is not None:
                        await first(before, after)
                    await self._put(after, stored.revision)
            except RevisionConflict:
                await asyncio.sleep(random.uniform(0, 0.01))  # noqa: S311  # spreads racing writers, nothing secret
            except BrokerUnavailable as error:
                await retry.pause(error)
            else:
                return before, after

    async def _put(self, record: JobRecord, revision: int) -> None:
        life = ENDED_RECORD_LIFE if record.state is JobState.ENDED else None
        await self._bucket.put(record.id, _dump(record), revision=revision, life=life)


class _Retry:
    """Growing pauses until the patience is used up; then the last error is raised."""

    def __init__(self, patience_s: float) -> None:
        self._deadline = asyncio.get_running_loop().time() + patience_s
        self._delay_s = 0.05

    async def pause(self, error: BrokerUnavailable) -> None:
        if asyncio.get_running_loop().time() + self._delay_s > self._deadline:
            raise error
        await asyncio.sleep(self._delay_s * random.uniform(0.5, 1))  # noqa: S311
        self._delay_s = min(self._delay_s * 2, 1.0)


def _dump(record: JobRecord) -> bytes:
    return record.model_dump_json(exclude_none=True).encode()


def _parse(value: bytes | None) -> JobRecord | None:
    return None if value is None else JobRecord.model_validate_json(value)
