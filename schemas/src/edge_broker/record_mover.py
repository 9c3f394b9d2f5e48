"""Moves the records of ended jobs out of the bucket that keepers and executors watch.

What they hold, and what a start or a reconnect costs them, depends on the unfinished jobs only.
"""

import asyncio
import itertools
import random
from collections.abc import Callable
from time import monotonic

import structlog

from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.records import RecordStore

log = structlog.get_logger(__name__)

MOVE_AFTER_S = 60.0
"""Within this time, the watch of an executor that reconnects shows the end, and a repeated call reads one bucket."""
CHECK_S = 1.0
RETRY_S = 5.0
AT_ONCE = 16


class RecordMover:
    """Knows the ended jobs whose records are still in the watched bucket, and moves them. Run `run()`.

    Any number of processes may do this at once. If none does, ended records stay where they are and expire there.

    Args:
        records: Of all jobs.
        after_s: For how long a record stays after its end was seen.
        clock: Monotonic seconds.
    """

    def __init__(
        self, records: RecordStore, *, after_s: float = MOVE_AFTER_S, clock: Callable[[], float] = monotonic
    ) -> None:
        self._records = records
        # Different for each process, so that mostly one of them moves a record.
        self._after_s = after_s * random.uniform(1, 1.2)  # noqa: S311  # nothing secret
        self._clock = clock
        self._ended: dict[str, float] = {}

    def __len__(self) -> int:
        """How many records are to be moved."""
        return len(self._ended)

    def add(self, job: str) -> None:
        """The watched bucket shows that a job has ended."""
        self._ended.setdefault(job, self._clock())

    def discard(self, job: str) -> None:
        """The watched bucket has no ended record of this job any more."""
        self._ended.pop(job, None)

    async def run(self) -> None:
        """Move records when they are due, forever. While NATS is unreachable they stay."""
        while True:
            await asyncio.sleep(CHECK_S)
            try:
                await self.move_due()
            except BrokerUnavailable as error:
                log.warning("ended_records_not_moved", records=len(self), error=repr(error))
                await asyncio.sleep(RETRY_S)

    async def move_due(self) -> None:
        """Move the records that are due. A record that can't be moved is due again later, and delays no other.

        Raises:
            BrokerUnavailable: Call again later.
        """
        failures: list[Exception] = []
        before = self._clock() - self._after_s
        while due := self._next_due(before):
            results = await asyncio.gather(*map(self._records.move_ended, due), return_exceptions=True)
            for job, result in zip(due, results, strict=True):
                if result is None:
                    self.discard(job)
                elif isinstance(result, BrokerUnavailable) or not isinstance(result, Exception):
                    raise result
                else:  # whatever is wrong with this record
                    failures.append(result)
                    self.discard(job)
                    self.add(job)
        if failures:
            log.warning("ended_records_not_moved", records=len(failures), error=repr(failures[0]))

    def _next_due(self, before: float) -> list[str]:
        oldest = itertools.islice(self._ended.items(), AT_ONCE)  # in the order in which they were seen
        return [job for job, seen_at in oldest if seen_at <= before]
