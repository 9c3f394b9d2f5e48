"""Publishes jobs in the background: the record with the bundle's version, then, at the job's turn, the message.

Nothing here raises into the scheduler. While NATS is unreachable, jobs wait in memory in their order and their tasks
stay queued in Airflow; jobs that are lost with the scheduler then are found by its successor's adoption.
"""

import asyncio
import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic

import structlog

from edge_bridge.airflow.mapping import NO_DISPATCH_ID
from edge_bridge.executor.bundles.version_choice import VersionChoice, WatchedVersions
from edge_bridge.executor.metrics import TeamMetrics
from edge_bridge.executor.publish_queue import Publication, PublishQueue, Stage
from edge_bridge.signing.signer import Sign, unsigned
from edge_bridge.tracing import CentreJobSpans
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError, PayloadTooLarge, StreamFull
from edge_broker.jetstream.append import publish_once
from edge_broker.records import DispatchSeen, RecordStore, RecordUnreadable
from edge_broker.subjects import job_subject
from edge_schemas.life.events import Expire
from edge_schemas.life.model import new_record
from edge_schemas.wire.errors import EdgeError
from edge_schemas.wire.jobs import Job
from edge_service.signing.ed25519 import SigningFailed
from edge_upkeep.messages import Consumers
from edge_upkeep.order.queue_order import QueueOrder

log = structlog.get_logger(__name__)

CONCURRENCY = 64
CONNECT_WAIT_S = 5.0
REFUSED_DELAY_S = 10.0
WARN_EVERY_S = 60.0


class Publisher:
    """Puts jobs into NATS. Lives in the portal's loop.

    Args:
        on_refused: Called with a job that can never be published, and the reason.
        on_seen: Called with a job whose record exists already, made by an earlier attempt or by another scheduler.
        order: Decides whose message is due.
        metrics: Count publications.
        spans: Report them to the trace collector.
        published: The published versions of bundles.
        bundle_wait_s: How long a job waits for its bundle's version.
        sign: Signs each job.

    Attributes:
        queue: What has no message yet.
        versions: Chooses the version of a new job's bundle, before the job is queued here.
    """

    def __init__(
        self,
        on_refused: Callable[[str, str], None],
        on_seen: Callable[[str], None],
        order: QueueOrder[Job],
        metrics: TeamMetrics,
        spans: CentreJobSpans,
        *,
        published: WatchedVersions,
        bundle_wait_s: float,
        sign: Sign = unsigned,
    ) -> None:
        self._on_refused = on_refused
        self._on_seen = on_seen
        self._metrics = metrics
        self._spans = spans
        self._sign = sign
        self.queue = PublishQueue(order)
        self.versions = VersionChoice(published, bundle_wait_s, self.queue.put, _counted(self._refuse, metrics))
        self._consumers = Consumers()
        self._warned_at = -WARN_EVERY_S

    def __len__(self) -> int:
        return len(self.queue) + len(self.versions)

    def __contains__(self, job: str) -> bool:
        return job in self.queue or job in self.versions

    def add(self, jobs: list[Job]) -> None:
        """Publish new dispatches; of equal weights, in this order."""
        for job in jobs:
            # The id of an auxiliary job is its own: it may be handed out again, and is not run twice.
            self.versions.add(Publication(job, job.id, Stage.RECORD, is_new=job.auxiliary is None))

    def publish_missing(self, job: Job) -> None:
        """Publish a dispatch that had no record a moment ago; a slow scheduler may still publish it first."""
        self.versions.add(Publication(job, job.id, Stage.RECORD))

    def left(self, job: str) -> None:
        """The job waits no longer: what is not published yet never is."""
        self.versions.discard(job)
        self.queue.left(job)

    def republish(self, job: Job) -> None:
        """Publish the message of a waiting job again, with a new id: the server would drop a duplicate."""
        if job.id not in self.queue:
            message_id = f"{job.id}.{uuid.uuid4().hex[:12]}"
            self.queue.put(Publication(job, message_id, Stage.HELD, is_repeat=True))

    async def run(self, broker: Broker, store: RecordStore) -> None:
        """Publish, forever. What a former run has not finished comes first."""
        self.queue.restart()
        self._consumers.clear()
        broker.on_connection(self._consumers.clear)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.versions.run(), name="version-choice")
            for number in range(CONCURRENCY):
                group.create_task(self._work(broker, store), name=f"publisher-{number}")

    async def _work(self, broker: Broker, store: RecordStore) -> None:
        while True:
            publication = await self.queue.get()
            delay_s = 0.1
            while not await self._try(broker, store, publication):
                # Repeated here, not at the end of the queue: jobs keep their order while NATS is unreachable.
                await asyncio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311  # jitter, nothing secret
                delay_s = min(delay_s * 2, CONNECT_WAIT_S)

    async def _try(self, broker: Broker, store: RecordStore, publication: Publication) -> bool:
        """Whether this worker is done with it: recorded, published, refused for good, or queued again for later."""
        try:
            await broker.wait_connected(CONNECT_WAIT_S)
            if publication.stage is Stage.RECORD:
                publication.job = await self._sign(publication.job)
                await store.create(new_record(publication.job))
                self.queue.hold(publication)
                return True
            await self._publish(broker, publication)
        except (BrokerUnavailable, SigningFailed) as error:
            self._metrics.publish_failed()
            self._warn(_cause_of(error), str(error))
            return False
        except JetStreamError as error:
            self._metrics.publish_failed()
            self._warn("NATS refuses", str(error))
            if isinstance(error, StreamFull):
                return False
            # It may concern one queue only: the jobs of the others must not wait.
            self.queue.put_again_after(REFUSED_DELAY_S, publication)
            return True
        except DispatchSeen:
            if publication.is_new:
                self._refuse(publication, NO_DISPATCH_ID)
            else:
                self._on_seen(publication.job.id)
        except (PayloadTooLarge, RecordUnreadable) as error:
            await self._put_aside(store, publication, f"it can't be sent to an edge site: {error}")
        except Exception as error:  # else the loops would restart, and meet this job again first
            log.exception("job_not_published", job=publication.job.id, queue=publication.job.queue)
            reason = f"it can't be sent to an edge site: unexpected error: {type(error).__name__}"
            await self._put_aside(store, publication, reason)
        self.queue.done(publication)
        return True

    async def _publish(self, broker: Broker, publication: Publication) -> None:
        job = publication.job
        await self._consumers.ensure(broker, job.team, job.queue, job.kind)
        subject = job_subject(job.team, job.queue, job.kind, job.id)
        payload = job.model_dump_json(exclude_none=True).encode()
        await publish_once(broker, subject, payload, message_id=publication.message_id)
        _count(publication, self._metrics, self._spans)
        log.info("job_published", job=job.id, queue=job.queue, message_id=publication.message_id)

    async def _put_aside(self, store: RecordStore, publication: Publication, reason: str) -> None:
        """Refuse a job for good, and end its record: without a message the job would wait forever."""
        self._refuse(publication, reason)
        if publication.stage is not Stage.RECORD:
            await _end_record(store, publication.job.id, reason)

    def _refuse(self, publication: Publication, reason: str) -> None:
        self.queue.left(publication.job.id)
        self._metrics.refused()
        log.warning("job_refused", job=publication.job.id, queue=publication.job.queue, reason=reason)
        self._on_refused(publication.job.id, reason)

    def _warn(self, what: str, error: str) -> None:
        """Log at most once a minute that tasks wait, and why."""
        if monotonic() - self._warned_at >= WARN_EVERY_S:
            self._warned_at = monotonic()
            log.warning(
                "publishing_waits", what=f"{what}: {len(self)} jobs wait and stay queued in Airflow", error=error
            )


def _counted(refuse: Callable[[Publication, str], None], metrics: TeamMetrics) -> Callable[[Publication, str], None]:
    """Refuse a job whose version is not published, and count it for an alert."""

    def refuse_and_count(publication: Publication, reason: str) -> None:
        metrics.put_aside("bundle")
        refuse(publication, reason)

    return refuse_and_count


def _cause_of(error: BrokerUnavailable | SigningFailed) -> str:
    return "NATS can't be reached" if isinstance(error, BrokerUnavailable) else "jobs can't be signed"


def _count(publication: Publication, metrics: TeamMetrics, spans: CentreJobSpans) -> None:
    if publication.is_repeat:
        metrics.republished()
    else:
        metrics.published(publication.job.queue, publication.took_s)
        spans.published(publication.job)


async def _end_record(store: RecordStore, job: str, reason: str) -> None:
    try:
        await store.change(job, Expire(reason, datetime.now(UTC)))
    except (EdgeError, JetStreamError) as error:
        # The keeper withdraws a waiting job whose task has failed.
        log.warning("refused_job_not_ended", job=job, error=str(error))
