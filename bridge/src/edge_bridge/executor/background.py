"""The part of the executor that waits for NATS or for the database, in the portal's loop."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import structlog

from edge_bridge.airflow.dispatch_table import STARTED, DispatchTable, Entry
from edge_bridge.airflow.mapping import JobMaker
from edge_bridge.executor.adoption import read_records
from edge_bridge.executor.concurrency import put_aside
from edge_bridge.executor.metrics import TeamMetrics
from edge_bridge.executor.order.desired_queues import DesiredQueues
from edge_bridge.executor.publisher import Publisher
from edge_bridge.executor.queue_timeout import QueueTimeouts
from edge_bridge.executor.reconcile.reconciler import Reconciler
from edge_bridge.executor.reports import Reports
from edge_bridge.executor.settings import ExecutorSettings
from edge_bridge.signing.signer import signer_of
from edge_bridge.signing.trust import CentreTrust
from edge_bridge.tracing import CentreJobSpans
from edge_broker.bundles.mirror import BundleMirror
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_broker.records import RecordStore
from edge_broker.subjects import DESIRED_BUCKET, RECORDS_BUCKET, RELAY_DEMAND
from edge_broker.watched_bucket import WatchedBucket
from edge_schemas.life.model import JobRecord
from edge_schemas.wire.jobs import Job
from edge_upkeep.order.demand import Demand
from edge_upkeep.order.queue_order import QueueOrder
from edge_upkeep.order.rank import Rank, rank

if TYPE_CHECKING:
    from airflow.executors.executor_utils import ExecutorName

log = structlog.get_logger(__name__)

RESTART_S = 5.0
REPAIR_WORKERS = 8
"""When a site vanishes, all its jobs are released at once."""


class Background:
    """The executor's loops, with one connection to NATS.

    Created in the scheduler's thread; its methods are called in the loop only.
    """

    def __init__(
        self,
        settings: ExecutorSettings,
        maker: JobMaker,
        name: "ExecutorName | None",
        metrics: TeamMetrics,
        spans: CentreJobSpans,
    ) -> None:
        self._settings = settings
        self.metrics = metrics
        self.spans = spans
        self._messages: asyncio.Queue[str] = asyncio.Queue()
        self._unseen: asyncio.Queue[str] = asyncio.Queue()
        self._connection: tuple[Broker, RecordStore] | None = None
        self._is_started = asyncio.Event()
        self.dispatches = DispatchTable()
        self.reports = Reports(self.dispatches, self._messages.put_nowait, self._unseen.put_nowait, metrics)
        self._demand = Demand()
        self.order = QueueOrder(
            rank,
            self._demand,
            lambda _, queue: self.dispatches.started_in(queue),
            lambda *_: settings.publish_ahead,
            most=lambda _, queue: settings.queues.rules(queue).max_running,
        )
        self._bundles = BundleMirror()
        self.publisher = Publisher(
            self.reports.refuse,
            self._unseen.put_nowait,
            self.order,
            metrics,
            spans,
            published=self._bundles,
            bundle_wait_s=settings.bundle_wait_s,
            sign=signer_of(settings.signing),
        )
        self._bundles.listen(self.publisher.versions.published_changed, self.publisher.versions.published_known)
        self.dispatches.on_left(self._left)
        self._desired = DesiredQueues(settings.queues, maker.team, self.publisher.queue.demand_changed)
        self._demand.on_report(self.publisher.queue.demand_changed)
        self.reconciler = Reconciler(
            self.dispatches,
            self.publisher,
            self.reports,
            interval_s=settings.reconcile_interval_s,
            maker=maker,
            name=name,
            metrics=metrics,
            trust=CentreTrust(settings.signing, partial(metrics.put_aside, "signature")),
        )
        self.queue_timeouts = QueueTimeouts(self.dispatches, self.reports, settings.queues, metrics)

    @property
    def connected(self) -> bool:
        """Whether NATS is connected. May be read in any thread."""
        return self._connection is not None and self._connection[0].connected

    async def run(self) -> None:
        """Run the loops until cancelled. A loop that fails is a bug, but must not stop the executor: all restart."""
        while True:
            try:
                await self._serve()
            except Exception:
                log.exception("executor_background_failed", restart_s=RESTART_S)
            self._is_started.clear()
            await asyncio.sleep(RESTART_S)

    def publish(self, entries: list[Entry], jobs: list[Job]) -> None:
        """Follow new dispatches and publish them."""
        self.dispatches.add(entries)
        self.publisher.add(jobs)

    def adopt(self, known: list[tuple[Entry, JobRecord]], undecided: list[Entry]) -> None:
        """Follow the dispatches of a dead scheduler."""
        self.dispatches.add(entry for entry, _ in known)
        self.dispatches.add(undecided)
        for entry, record in sorted(known, key=_by_rank):
            self.reports.update(entry, record)
        for entry in undecided:
            self._unseen.put_nowait(entry.job)

    async def read_records(self, jobs: Iterable[str]) -> dict[str, JobRecord | None]:
        """See `adoption.read_records`; waits until the loops have started."""
        await self._is_started.wait()
        assert self._connection is not None  # noqa: S101  # set together with the event
        return await read_records(*self._connection, jobs)

    async def flush(self, timeout_s: float) -> int:
        """Publish what is pending, if NATS is connected; returns how many jobs are left."""
        if not self.connected:
            return len(self.publisher)
        return await self.publisher.queue.flush(timeout_s) + len(self.publisher.versions)

    async def _serve(self) -> None:
        async with Broker(self._settings.broker) as broker, asyncio.TaskGroup() as group:
            store = RecordStore(broker)
            self._connection = broker, store
            self._is_started.set()
            await broker.subscribe(RELAY_DEMAND, self._demand.on_message)
            # After a restart of the loops: records that have left the bucket meanwhile are reported as gone.
            known = [entry.job for entry in self.dispatches.select(lambda entry: entry.state is not None)]
            watched = WatchedBucket(broker, RECORDS_BUCKET, self.reports.on_record, known=known)
            desired = WatchedBucket(broker, DESIRED_BUCKET, self._desired.apply)
            group.create_task(watched.run(), name="watched-records")
            group.create_task(desired.run(), name="desired-queues")
            group.create_task(self._bundles.run(broker), name="published-bundles")
            group.create_task(self.publisher.run(broker, store), name="publisher")
            group.create_task(self.reports.run(), name="reports")
            group.create_task(self.reconciler.run(broker, store), name="reconciler")
            group.create_task(self.queue_timeouts.run(store), name="queue-timeouts")
            repair = partial(self.reconciler.messages.repair, broker, store)
            read = partial(self.reconciler.records.read_unseen, store)
            for number in range(REPAIR_WORKERS):
                group.create_task(self._call_for_each(self._messages, broker, repair), name=f"message-repair-{number}")
                group.create_task(self._call_for_each(self._unseen, broker, read), name=f"record-reader-{number}")

    def _left(self, job: str) -> None:
        """A job waits no longer. It may have been a started one, which leaves room for another."""
        entry = self.dispatches.get(job)
        if entry is not None and entry.queue is not None and entry.state not in STARTED:
            self.order.ended(entry.team, entry.queue)
        self.publisher.left(job)

    async def _call_for_each(
        self, jobs: asyncio.Queue[str], broker: Broker, do: Callable[[str], Awaitable[None]]
    ) -> None:
        """Call a function for each job in the queue, while NATS is connected; a failed call is repeated.

        Jobs that wait again get their message, those that ended while they waited lose it; records that could not be
        read in time are read.
        """
        while True:
            await broker.wait_connected()
            job = await jobs.get()
            try:
                await do(job)
            except (BrokerUnavailable, JetStreamError) as error:
                log.warning("job_not_repaired", job=job, error=str(error))
                jobs.put_nowait(job)
                await asyncio.sleep(RESTART_S)
            except Exception as error:  # noqa: BLE001  # reported by `put_aside`; the comparison finds the job again
                put_aside(self.metrics, "message", job, error)


def _by_rank(adopted: tuple[Entry, JobRecord]) -> Rank:
    """The order in which the messages of waiting jobs are due; jobs that have ended have none."""
    _, record = adopted
    return (False, 0, record.created_at) if record.job is None else rank(record.job)
