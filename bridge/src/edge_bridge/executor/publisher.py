"""Record first, then message: the background step that puts jobs where workers can take them.

Nothing here raises into the scheduler. With NATS away jobs wait in memory in their order and their tasks stay queued
in Airflow; what is lost with the scheduler then, its successor's adoption finds.
"""

import asyncio
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

import structlog

from edge_bridge.airflow.mapping import NO_DISPATCH_ID
from edge_bridge.executor.metrics import TeamMetrics
from edge_bridge.tracing import JobSpans
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError, PayloadTooLarge, StreamFull
from edge_broker.jetstream.append import publish_once
from edge_broker.layout import ensure_consumer
from edge_broker.records import DispatchSeen, RecordStore
from edge_broker.subjects import job_subject
from edge_schemas.life.model import new_record
from edge_schemas.wire.jobs import Job

log = structlog.get_logger(__name__)

CONCURRENCY = 64
CONNECT_WAIT_S = 5.0
REFUSED_DELAY_S = 10.0
WARN_EVERY_S = 60.0


@dataclass(slots=True)
class Publication:
    """One intent to publish; all its repeats carry the same message id.

    Attributes:
        recorded: The record is there, only the message is missing. The record may have changed since: a message whose
            answer was lost can have been taken and started.
        is_new: A record that is there already is an older dispatch's.
        is_repeat: The job was published before; its message is put back.
        since: Monotonic seconds.
    """

    job: Job
    message_id: str
    recorded: bool
    is_new: bool = False
    is_repeat: bool = False
    since: float = field(default_factory=monotonic)


class Publisher:
    """Jobs on their way to NATS. Lives in the portal's loop.

    Args:
        on_refused: Called with a job that can never be published, and the reason.
        on_seen: Called with a job whose record is there already, of an earlier attempt or another scheduler's.
        metrics: Count what happens.
        spans: Tell of it.
    """

    def __init__(
        self,
        on_refused: Callable[[str, str], None],
        on_seen: Callable[[str], None],
        metrics: TeamMetrics,
        spans: JobSpans,
    ) -> None:
        self._on_refused = on_refused
        self._on_seen = on_seen
        self._metrics = metrics
        self._spans = spans
        self._pending: dict[str, Publication] = {}
        self._queue: asyncio.Queue[Publication] = asyncio.Queue()
        self._consumers: set[tuple[str | None, str]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._warned_at = -WARN_EVERY_S

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, job: str) -> bool:
        return job in self._pending

    def add(self, jobs: list[Job]) -> None:
        """Publish new dispatches, in this order."""
        for job in jobs:
            # An auxiliary job's id is its own: it may be handed out again, and is not run twice.
            self._put(Publication(job, job.id, recorded=False, is_new=job.auxiliary is None))

    def publish_missing(self, job: Job) -> None:
        """Publish a dispatch that had no record a moment ago; a scheduler that is only slow may be faster with it."""
        self._put(Publication(job, job.id, recorded=False))

    def publish_again(self, job: Job) -> None:
        """Put the message of a waiting job back; its id is a new one, or the server would drop it as a repeat."""
        if job.id not in self._pending:
            message_id = f"{job.id}.{uuid.uuid4().hex[:12]}"
            self._put(Publication(job, message_id, recorded=True, is_repeat=True))

    async def run(self, broker: Broker, store: RecordStore) -> None:
        """Publish, for ever. What a former run left undone comes first."""
        self._queue = asyncio.Queue()
        self._consumers.clear()
        broker.on_connection(self._consumers.clear)
        for publication in self._pending.values():
            self._queue.put_nowait(publication)
        async with asyncio.TaskGroup() as group:
            for number in range(CONCURRENCY):
                group.create_task(self._work(broker, store), name=f"publisher-{number}")

    async def flush(self, timeout_s: float) -> int:
        """Wait until nothing is pending; returns how many jobs still are when the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            log.debug("publisher_flush_timed_out", jobs=len(self))
        return len(self)

    def _put(self, publication: Publication) -> None:
        self._pending[publication.job.id] = publication
        self._idle.clear()
        self._queue.put_nowait(publication)

    def _done(self, publication: Publication) -> None:
        if self._pending.get(publication.job.id) is publication:
            del self._pending[publication.job.id]
        if not self._pending:
            self._idle.set()

    async def _work(self, broker: Broker, store: RecordStore) -> None:
        while True:
            publication = await self._queue.get()
            if self._pending.get(publication.job.id) is not publication:
                continue
            delay_s = 0.1
            while not await self._try(broker, store, publication):
                # In place, not at the end of the line: jobs keep their order while NATS is away.
                await asyncio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311  # jitter, nothing secret
                delay_s = min(delay_s * 2, CONNECT_WAIT_S)

    async def _try(self, broker: Broker, store: RecordStore, publication: Publication) -> bool:
        """Whether there is nothing more to do here: done, refused for good, or put aside."""
        try:
            await broker.wait_connected(CONNECT_WAIT_S)
            await self._publish(broker, store, publication)
        except BrokerUnavailable as error:
            self._metrics.publish_failed()
            self._warn("NATS can't be reached", str(error))
            return False
        except JetStreamError as error:
            self._metrics.publish_failed()
            self._warn("NATS refuses", str(error))
            if isinstance(error, StreamFull):
                return False
            # Of one queue only, perhaps: the others go on.
            asyncio.get_running_loop().call_later(REFUSED_DELAY_S, self._queue.put_nowait, publication)
            return True
        except DispatchSeen:
            if publication.is_new:
                self._refuse(publication, NO_DISPATCH_ID)
            else:
                self._on_seen(publication.job.id)
        except PayloadTooLarge as error:
            self._refuse(publication, f"it can't be sent to an edge site: {error}")
        self._done(publication)
        return True

    async def _publish(self, broker: Broker, store: RecordStore, publication: Publication) -> None:
        job = publication.job
        if (job.team, job.queue) not in self._consumers:
            await ensure_consumer(broker, job.team, job.queue)
            self._consumers.add((job.team, job.queue))
        if not publication.recorded:
            await store.create(new_record(job))
            publication.recorded = True
        subject = job_subject(job.team, job.queue, job.id)
        payload = job.model_dump_json(exclude_none=True).encode()
        await publish_once(broker, subject, payload, message_id=publication.message_id)
        self._account(publication)
        log.info("job_published", job=job.id, queue=job.queue, message_id=publication.message_id)

    def _account(self, publication: Publication) -> None:
        if publication.is_repeat:
            self._metrics.republished()
        else:
            self._metrics.published(publication.job.queue, monotonic() - publication.since)
            self._spans.published(publication.job)

    def _refuse(self, publication: Publication, reason: str) -> None:
        self._metrics.refused()
        log.warning("job_refused", job=publication.job.id, queue=publication.job.queue, reason=reason)
        self._on_refused(publication.job.id, reason)

    def _warn(self, what: str, error: str) -> None:
        """Say once a minute that tasks wait and why."""
        if monotonic() - self._warned_at >= WARN_EVERY_S:
            self._warned_at = monotonic()
            log.warning(
                "publishing_waits", what=f"{what}: {len(self)} jobs wait and stay queued in Airflow", error=error
            )
