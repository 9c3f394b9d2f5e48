"""The unfinished jobs of all workers, as a watch of their records shows them.

The watch may be behind. So it shows only where there may be a directive, and each directive is made from a record that
was read through the stream leader: a watch that is behind delays a directive and never makes a wrong one.
"""

from collections.abc import Callable, Collection

from edge_broker.connection.broker import Broker
from edge_broker.subjects import RECORDS_BUCKET
from edge_broker.watched_bucket import WatchedBucket
from edge_relay.dispatch.state.watched_job import WatchedJob, watched_job

OnJob = Callable[[str, Collection[str], bool], None]
"""The id of a job that changed, the workers that held it before or hold it now, and whether it has ended."""


class RecordMirror:
    """Follows the records. Run `run()` in a task group."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._watched = WatchedBucket(broker, RECORDS_BUCKET, self._apply, on_complete=self._completed)
        self._jobs: dict[str, WatchedJob] = {}
        self._on_job: list[OnJob] = []
        self._on_value: list[Callable[[str, bytes | None], None]] = []
        self._on_current: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def is_current(self) -> bool:
        """Whether all records have been listed over the connection that stands now."""
        return self._watched.complete.is_set() and self._broker.connected

    def on_job(self, listener: OnJob) -> None:
        """Call `listener` at each change that may matter to a worker, whether or not the mirror is current."""
        self._on_job.append(listener)

    def on_value(self, listener: Callable[[str, bytes | None], None]) -> None:
        """Call `listener` with each record as it is stored, parsed by nobody; None once there is none."""
        self._on_value.append(listener)

    def on_current(self, listener: Callable[[], None]) -> None:
        """Call `listener` each time that the mirror has become current."""
        self._on_current.append(listener)

    def get(self, job: str) -> WatchedJob | None:
        """A job; None if it has ended, or is unknown."""
        return self._jobs.get(job)

    async def run(self) -> None:
        """Follow the records until cancelled."""
        await self._watched.run()

    def _apply(self, job: str, value: bytes | None) -> None:
        for on_value in self._on_value:
            on_value(job, value)
        before, after = self._jobs.get(job), None if value is None else watched_job(job, value)
        if before == after:
            return
        if after is None:
            del self._jobs[job]
        else:
            self._jobs[job] = after
        holders = {one.holder for one in (before, after) if one is not None and one.holder is not None}
        for listener in self._on_job:
            listener(job, holders, after is None)

    def _completed(self) -> None:
        for listener in self._on_current:
            listener()
