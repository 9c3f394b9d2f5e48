"""The jobs that have no message in NATS yet: first they get a record, then they are held until it is their turn."""

import asyncio
from dataclasses import dataclass, field
from enum import IntEnum
from time import monotonic

import structlog

from edge_schemas.wire.jobs import Job
from edge_upkeep.order.queue_order import QueueOrder
from edge_upkeep.order.rank import Rank, rank

log = structlog.get_logger(__name__)


class Stage(IntEnum):
    """What is done next with a publication. A message is due for a free slot, so it comes before all records."""

    MESSAGE = 0
    RECORD = 1
    HELD = 2


@dataclass(slots=True)
class Publication:
    """One intent to publish; all its tries use the same message id.

    Attributes:
        stage: From `MESSAGE` on the record exists. It may have changed since: a message whose acknowledgement was lost
            can have been delivered, and its job started.
        is_new: A record that exists already belongs to an older dispatch.
        is_repeat: The job was published before; only its message is published again.
        since: Since when it is under way: in hand, and not held back. Monotonic seconds.
        spent_s: For how long it was under way before that.
    """

    job: Job
    message_id: str
    stage: Stage
    is_new: bool = False
    is_repeat: bool = False
    since: float = field(default_factory=monotonic)
    spent_s: float = 0.0

    @property
    def took_s(self) -> float:
        """The time since the hand-out, without the time for which it was held back."""
        return self.spent_s + monotonic() - self.since


class PublishQueue:
    """Pending publications: at most one for each job, the newest. In each stage those of the lowest rank come first."""

    def __init__(self, order: QueueOrder[Job]) -> None:
        self._order = order
        self._pending: dict[str, Publication] = {}
        self._queue: asyncio.PriorityQueue[tuple[Stage, Rank, int, Publication]] = asyncio.PriorityQueue()
        self._arrivals = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._pending) - self._order.held

    def __contains__(self, job: str) -> bool:
        return job in self._pending

    def restart(self) -> None:
        """Queue everything that is under way again: the consumers of this queue start again."""
        self._queue = asyncio.PriorityQueue()
        for publication in self._pending.values():
            if publication.stage is not Stage.HELD:
                self._queue_up(publication)

    def put(self, publication: Publication) -> None:
        """Add a publication; it replaces a pending one of the same job."""
        self._pending[publication.job.id] = publication
        self._order.expect(publication.job)
        if publication.stage is Stage.HELD:
            self.hold(publication)
        else:
            self._queue_up(publication)
            self._changed()

    def put_again_after(self, delay_s: float, publication: Publication) -> None:
        """Queue a pending publication again after a pause; a job without a record does not keep others waiting."""
        if publication.stage is Stage.RECORD:
            self._order.leave(publication.job.id)
            self._release(self._order.due())
        asyncio.get_running_loop().call_later(delay_s, self._queue_up, publication)

    def hold(self, publication: Publication) -> None:
        """The record exists: hold the message back until it is due."""
        if self._pending.get(publication.job.id) is publication:
            publication.spent_s = publication.took_s
            publication.stage = Stage.HELD
            self._order.hold(publication.job)
            self._release(self._order.due())

    def has_message(self, job: Job, *, was_released: bool) -> None:
        """The job has a message, perhaps published by somebody else or released by a worker."""
        if job.id not in self._pending:
            self._order.has_message(job, was_released=was_released)
            self._release(self._order.due())

    def left(self, job: str) -> None:
        """The job waits no longer: a message that is held back is not published."""
        if self._order.leave(job):
            del self._pending[job]
        self._release(self._order.due())

    def demand_changed(self) -> None:
        """The number of free slots may be another one."""
        self._release(self._order.due_at_all())

    async def get(self) -> Publication:
        """The next publication that is still pending."""
        while True:
            _, _, _, publication = await self._queue.get()
            if self._pending.get(publication.job.id) is publication:
                return publication

    def done(self, publication: Publication) -> None:
        """The publication is no longer pending, unless a newer one of its job is."""
        if self._pending.get(publication.job.id) is publication:
            del self._pending[publication.job.id]
            if publication.stage is Stage.RECORD:
                self._order.leave(publication.job.id)
        self._release(self._order.due())

    async def flush(self, timeout_s: float) -> int:
        """Wait until nothing is pending but what is held back, for a limited time; returns how many jobs are."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            log.debug("publisher_flush_timed_out", jobs=len(self))
        return len(self)

    def _release(self, due: list[str]) -> None:
        for job in due:
            publication = self._pending[job]
            publication.stage = Stage.MESSAGE
            publication.since = monotonic()
            self._queue_up(publication)
        self._changed()

    def _queue_up(self, publication: Publication) -> None:
        self._arrivals += 1
        self._queue.put_nowait((publication.stage, rank(publication.job), self._arrivals, publication))

    def _changed(self) -> None:
        if len(self):
            self._idle.clear()
        else:
            self._idle.set()
