"""How many more jobs of a queue may run, where an operator has set `max_running` for the queue. All jobs count.

Executors and the upkeep of submitted jobs count their own jobs only, when they publish. So relays count all of them, as
the watch of the records shows them: they fetch no more jobs than may run, and check again before each start.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from edge_broker.subjects import parse_queue_token, queue_token
from edge_relay.desired.state import DesiredState
from edge_relay.dispatch.state.record_mirror import RecordMirror
from edge_relay.dispatch.state.watched_job import WatchedJob
from edge_schemas.admin.desired import QUEUE_PREFIX
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.jobs import JobKind

HELD = frozenset({JobState.RUNNING, JobState.STOPPING})
NEVER_WAIT = frozenset({JobKind.CALLBACK, JobKind.CONNECTION_TEST})
"""They count, and start at once all the same."""
GUARDED_TRIES = 20
"""Where other records change all the time, a start is not delayed for longer than by so many tries."""


class LimitReached(EdgeError):
    """As many jobs of the queue run as may: the job waits again."""

    def __init__(self, queue: str) -> None:
        super().__init__(ErrorCode.RECEIPT_EXPIRED, f"queue {queue} runs as many jobs as it may (max_running)")


class QueueLimits:
    """The limits of all queues, and what counts against them."""

    def __init__(self, mirror: RecordMirror, desired: DesiredState) -> None:
        self._mirror = mirror
        self._desired = desired
        self._most: dict[str, int] = {}
        self._held: Counter[str] = Counter()
        self._on_change: list[Callable[[str], None]] = []
        mirror.on_record(self._count)
        desired.on_change(self._desired_changed)

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with a queue, as a token, when more or fewer of its jobs may be fetched."""
        self._on_change.append(listener)

    def left(self, queue: str, kind: JobKind) -> int | None:
        """How many more jobs of a kind may run in a queue, given as a token; None for no limit."""
        most = None if kind in NEVER_WAIT else self._most.get(queue)
        return None if most is None else max(0, most - self._held[queue])

    def guard(self) -> Callable[[JobRecord], int | None]:
        """For one start of a job: call it with the record before each swap; see `RecordStore.change` for its result.

        Of several starts at different replicas at the same time only one succeeds: the others have counted too few.

        Raises:
            LimitReached: It may not start now.
            EdgeError: `broker_unavailable`: this replica does not know all records at the moment.
        """
        tries = iter(range(GUARDED_TRIES))
        return lambda record: self._check(record, tries)

    def _check(self, record: JobRecord, tries: Iterator[int]) -> int | None:
        left = self.left(queue_token(record.team, record.queue), record.kind)
        if left is None:
            return None
        if not self._mirror.is_current:
            raise EdgeError(ErrorCode.BROKER_UNAVAILABLE, "this relay does not know yet how many jobs of the queue run")
        if left == 0:
            raise LimitReached(record.queue)
        return None if next(tries, None) is None else self._mirror.position

    def _count(self, before: WatchedJob | None, after: WatchedJob | None) -> None:
        change = _holds(after) - _holds(before)
        known = after or before
        if change and known is not None:
            queue = queue_token(known.team, known.queue)
            self._held[queue] += change
            if not self._held[queue]:
                del self._held[queue]
            if queue in self._most:
                self._report(queue)

    def _desired_changed(self, key: str) -> None:
        if not key.startswith(QUEUE_PREFIX):
            return
        queue = key.removeprefix(QUEUE_PREFIX)
        most = self._desired.queue(*parse_queue_token(queue)).max_running
        if most is None:
            self._most.pop(queue, None)
        else:
            self._most[queue] = most
        self._report(queue)

    def _report(self, queue: str) -> None:
        for listener in self._on_change:
            listener(queue)


def _holds(job: WatchedJob | None) -> bool:
    return job is not None and job.state in HELD
