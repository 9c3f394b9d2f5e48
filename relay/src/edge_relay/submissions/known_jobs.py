"""The submitted jobs that the watch of the records shows: unfinished ones, and ended ones until their move."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from edge_broker.connection.errors import BrokerUnavailable
from edge_relay.dispatch.state.record_mirror import RecordMirror
from edge_relay.dispatch.state.watched_job import WatchedJob
from edge_schemas.life.model import JobState


@dataclass(slots=True)
class _Queue:
    """The jobs of a queue, by id.

    Attributes:
        waiting: By producer: jobs that wait, parked and delayed ones included.
        ended: Whose records have not been moved: they are in no index yet.
    """

    unfinished: dict[str, WatchedJob] = field(default_factory=dict)
    ended: dict[str, WatchedJob] = field(default_factory=dict)
    waiting: Counter[str] = field(default_factory=Counter)


_NONE = _Queue()


class KnownJobs:
    """Follows the mirror of the records."""

    def __init__(self, mirror: RecordMirror) -> None:
        self._queues: dict[str, _Queue] = {}
        self._queue_of_ended: dict[str, str] = {}
        self._is_ready = False
        mirror.on_current(self._current)
        mirror.on_record(self._record_changed)
        mirror.on_end(self._ended)

    def check(self) -> None:
        """Refuse a call that would show too little: after a start, until all records were listed once.

        Raises:
            BrokerUnavailable: Repeat the call.
        """
        if not self._is_ready:
            raise BrokerUnavailable("the records of jobs are still being read")

    def unfinished(self, queue: str) -> Collection[WatchedJob]:
        """Jobs that have not ended; to be read without a pause."""
        return self._queues.get(queue, _NONE).unfinished.values()

    def ended(self, queue: str) -> Collection[WatchedJob]:
        """Jobs that have ended and whose records have not been moved; to be read without a pause."""
        return self._queues.get(queue, _NONE).ended.values()

    def waiting(self, queue: str, producer: str) -> int:
        """How many jobs of a producer wait in a queue, parked and delayed ones included."""
        return self._queues.get(queue, _NONE).waiting[producer]

    def _current(self) -> None:
        self._is_ready = True

    def _record_changed(self, before: WatchedJob | None, after: WatchedJob | None) -> None:
        if before is not None and before.terms is not None:
            self._count(before, -1)
            self._queues[before.queue].unfinished.pop(before.id, None)
            self._forget_if_empty(before.queue)
        if after is not None and after.terms is not None:
            self._queues.setdefault(after.queue, _Queue()).unfinished[after.id] = after
            self._count(after, 1)

    def _count(self, job: WatchedJob, by: int) -> None:
        if job.terms is not None and job.state is JobState.WAITING:
            self._queues[job.queue].waiting[job.terms.producer] += by

    def _ended(self, job: str, found: WatchedJob | None) -> None:
        if found is not None and found.terms is not None:
            self._queues.setdefault(found.queue, _Queue()).ended[job] = found
            self._queue_of_ended[job] = found.queue
        elif (queue := self._queue_of_ended.pop(job, None)) is not None:
            self._queues[queue].ended.pop(job, None)
            self._forget_if_empty(queue)

    def _forget_if_empty(self, queue: str) -> None:
        of_queue = self._queues[queue]
        if not of_queue.unfinished and not of_queue.ended:
            del self._queues[queue]
