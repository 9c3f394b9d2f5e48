"""The unfinished jobs of all workers, and those that ended a moment ago, as a watch of their records shows them.

The watch may be behind. So it shows only where there may be a directive, and each directive is made from a record that
was read through the stream leader: a watch that is behind delays a directive and never makes a wrong one.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable

from edge_broker.connection.broker import Broker
from edge_broker.subjects import RECORDS_BUCKET, queue_token
from edge_broker.watched_bucket import WatchedBucket
from edge_relay.dispatch.state.watched_job import WatchedJob, watched_job
from edge_schemas.life.model import JobState

OnJob = Callable[[str, Collection[str], bool], None]
"""The id of a job that changed, the workers that held it before or hold it now, and whether it has ended."""
OnEnd = Callable[[str, WatchedJob | None], None]
"""The id of a job whose record shows that it has ended, with the job; or that is gone from the bucket, with None."""
OnRecord = Callable[[WatchedJob | None, WatchedJob | None], None]
"""A job before and after a change of its record; None for one that is not known or not unfinished."""

ENDED_FOR_S = 300.0
MAX_ENDED = 10_000
"""Ended jobs are kept for lists until the stream of ended records has them for certain."""


class RecordMirror:
    """Follows the records. Run `run()` in a task group.

    Attributes:
        watched: The bucket.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.watched = WatchedBucket(broker, RECORDS_BUCKET, self._apply, on_complete=self._completed)
        self._jobs: dict[str, WatchedJob] = {}
        self._ended: OrderedDict[str, tuple[float, WatchedJob]] = OrderedDict()
        self._on_job: list[OnJob] = []
        self._on_end: list[OnEnd] = []
        self._on_record: list[OnRecord] = []
        self._on_current: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def complete(self) -> asyncio.Event:
        """Set while all records are known; cleared when the connection is lost."""
        return self.watched.complete

    @property
    def is_current(self) -> bool:
        """Whether all records have been listed over the connection that stands now."""
        return self.watched.complete.is_set() and self._broker.connected

    @property
    def position(self) -> int:
        """The revision of the newest record that is known."""
        return self.watched.position

    def on_job(self, listener: OnJob) -> None:
        """Call `listener` at each change that may matter to a worker, whether or not the mirror is current."""
        self._on_job.append(listener)

    def on_record(self, listener: OnRecord) -> None:
        """Call `listener` at each change of a record, also while the records are listed."""
        self._on_record.append(listener)

    def on_end(self, listener: OnEnd) -> None:
        """Call `listener` at each record of an ended job and at each one that is gone, known before or not."""
        self._on_end.append(listener)

    def jobs(self) -> Iterable[WatchedJob]:
        """All unfinished jobs; to be read without a pause."""
        return self._jobs.values()

    def ended(self) -> list[WatchedJob]:
        """Jobs that this replica saw end in the last minutes, the earliest first."""
        self._forget_ended()
        return [job for _, job in self._ended.values()]

    def on_current(self, listener: Callable[[], None]) -> None:
        """Call `listener` each time that the mirror has become current."""
        self._on_current.append(listener)

    def get(self, job: str) -> WatchedJob | None:
        """A job that has not ended; None for others."""
        return self._jobs.get(job)

    def queue_of(self, job: str) -> str | None:
        """The queue of a job that has not ended, as a token; None for others."""
        known = self._jobs.get(job)
        return None if known is None else queue_token(known.team, known.queue)

    async def run(self) -> None:
        """Follow the records until cancelled."""
        await self.watched.run()

    def _apply(self, job: str, value: bytes | None) -> None:
        before, found = self._jobs.get(job), None if value is None else watched_job(job, value)
        after = found
        if found is not None and found.state is JobState.ENDED:
            after = None
            self._keep_ended(found)
        if found is None or found.state is JobState.ENDED:
            for on_end in self._on_end:
                on_end(job, found)
        if before is None and after is None:
            return
        for on_record in self._on_record:
            on_record(before, after)
        if after is None:
            del self._jobs[job]
        else:
            self._jobs[job] = after
        if before == after:
            return
        holders = {one.holder for one in (before, after) if one is not None and one.holder is not None}
        for on_job in self._on_job:
            on_job(job, holders, after is None)

    def _keep_ended(self, job: WatchedJob) -> None:
        self._forget_ended()
        self._ended[job.id] = (time.monotonic() + ENDED_FOR_S, job)
        if len(self._ended) > MAX_ENDED:
            self._ended.popitem(last=False)

    def _forget_ended(self) -> None:
        now = time.monotonic()
        while self._ended and next(iter(self._ended.values()))[0] < now:
            self._ended.popitem(last=False)

    def _completed(self) -> None:
        for listener in self._on_current:
            listener()
