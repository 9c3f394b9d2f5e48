"""Whose log it is, and whether the job has ended."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from edge_broker.records import RecordStore, RecordUnreadable
from edge_broker.subjects import WAITING_SUFFIX, queue_token

T = TypeVar("T")
AT_ONCE = 16
UNKNOWN_QUEUE = ""


@dataclass(frozen=True, slots=True)
class LoggedJob:
    """The job of a log.

    Attributes:
        queue: As a token.
        ended_at: As Unix time; None if it has not ended, 0 if its record has expired.
    """

    queue: str
    ended_at: float | None


class LoggedJobs:
    """Finds the jobs of logs. That a job has ended is decided by the record itself, read through the leader.

    Args:
        records: Of all jobs.
        queue_of: The queue of a job that has not ended as far as this replica knows, as a token, else
            None. It spares a read; it may be behind.
    """

    def __init__(self, records: RecordStore, queue_of: Callable[[str], str | None]) -> None:
        self._records = records
        self._queue_of = queue_of

    def may_have_ended(self, subject: str) -> bool:
        """Whether the record is worth a read."""
        return self._queue_of(_job_of(subject)) is None

    async def find(self, subjects: Iterable[str]) -> dict[str, LoggedJob]:
        """The jobs of logs, by the logs' subjects.

        Raises:
            BrokerUnavailable: Call again later.
        """
        wanted = list(subjects)
        return dict(zip(wanted, await in_parallel(self._find(subject) for subject in wanted), strict=True))

    async def _find(self, subject: str) -> LoggedJob:
        job = _job_of(subject)
        if (queue := self._queue_of(job)) is not None:
            return LoggedJob(queue, None)
        try:
            record = await self._records.get(job)
        except RecordUnreadable:
            return LoggedJob(UNKNOWN_QUEUE, None)
        if record is None:
            return LoggedJob(UNKNOWN_QUEUE, 0.0)
        ended_at = None if record.outcome is None else record.outcome.ended_at.timestamp()
        return LoggedJob(queue_token(record.team, record.queue), ended_at)


def _job_of(subject: str) -> str:
    """The job whose log this is, or whose lines while it waited."""
    return subject.rpartition(".")[2].removesuffix(WAITING_SUFFIX)


async def in_parallel(calls: Iterable[Awaitable[T]]) -> list[T]:
    """The results of calls, some of which are made at the same time.

    Raises:
        ExceptionGroup: What the calls have raised.
    """
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(call: Awaitable[T]) -> T:
        async with limit:
            return await call

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(call)) for call in calls]
    return [task.result() for task in tasks]
