"""The lists of operators and one item in full, from memory and a few bounded reads."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_relay.desired.state import DesiredState
from edge_relay.dispatch.state.record_mirror import RecordMirror
from edge_relay.dispatch.state.watched_job import WatchedJob
from edge_relay.fleet.jobs.rows import job_row
from edge_relay.fleet.lists.cached import Cached, Dated
from edge_relay.fleet.lists.pages import page
from edge_relay.fleet.queues.counts import count_records, read_consumers
from edge_relay.fleet.queues.flow import Flow, QueueKey
from edge_relay.fleet.queues.rows import (
    QUEUE_ORDER,
    QueueCounts,
    existing_queues,
    matching_queues,
    queue_rows,
    queue_rows_of_sites,
    served_queues,
)
from edge_relay.fleet.workers.history import worker_history
from edge_relay.fleet.workers.index import WorkerIndex, WorkerView
from edge_relay.fleet.workers.missing import what_is_missing
from edge_relay.fleet.workers.rows import WORKER_ORDER, in_scope, matching_workers, worker_row
from edge_relay.fleet.workers.sites import SITE_ORDER, matching_sites, site_rows
from edge_relay.gate.centre import Centre
from edge_relay.identity.credentials import Credentials
from edge_relay.metrics.fleet import Fleet
from edge_schemas.admin.access import AccessScope
from edge_schemas.admin.rows import (
    MAX_JOBS_OF_ROW,
    QueuePage,
    QueueRow,
    SitePage,
    SiteRow,
    WorkerDetail,
    WorkerJob,
    WorkerPage,
    WorkerRow,
)
from edge_schemas.admin.view_queries import QueueQuery, SiteQuery, WorkerQuery
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.worker_entry import WorkerEntry
from edge_schemas.wire.worker_report import StoredJobReport

READY_WITHIN_S = 8.0


@dataclass(frozen=True, slots=True)
class Sources:
    """Where all that operators see comes from.

    Attributes:
        fleet: The last polls of workers.
        mirror: The unfinished jobs.
    """

    broker: Broker
    fleet: Fleet
    credentials: Credentials
    desired: DesiredState
    mirror: RecordMirror
    centre: Centre

    async def ready(self) -> None:
        """Wait until everything was read once.

        Raises:
            BrokerUnavailable: Not within some seconds after the start of the replica.
        """
        events = (self.credentials.complete, self.fleet.complete, self.desired.complete, self.mirror.complete)
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                for event in events:
                    await event.wait()
        except TimeoutError:
            raise BrokerUnavailable("this replica has not read workers and jobs yet; repeat the call") from None

    @property
    def centre_airflow(self) -> str | None:
        """Airflow's version at the centre, if a keeper has reported it."""
        known = self.centre.known
        return None if known is None else known.airflow_version


class FleetViews:
    """Lists of workers, sites and queues. What costs something is computed for all callers together."""

    def __init__(self, sources: Sources, flow: Flow) -> None:
        self.sources = sources
        self.flow = flow
        self.index = WorkerIndex(sources.fleet, sources.credentials, sources.desired)
        self._counts = Cached(sources.fleet.clock, self._count)
        self._was_ready = False

    async def workers(self, query: WorkerQuery, scope: AccessScope) -> WorkerPage:
        """A page of workers.

        Raises:
            EdgeError: `invalid_request`: a bad cursor.
            BrokerUnavailable: Nothing is known yet.
        """
        found = await self.all_workers()
        matching = matching_workers(found.value, query, scope)
        rows = page(matching, WORKER_ORDER, sort=query.sort, cursor=query.cursor, limit=query.limit)
        items = tuple(self._row(view, scope) for view in rows.rows)
        return WorkerPage(items=items, total=rows.total, next=rows.next, as_of=found.as_of)

    async def worker(self, name: str, scope: AccessScope) -> WorkerDetail:
        """One worker in full.

        Raises:
            EdgeError: `not_found`.
            BrokerUnavailable: Its history, or what its queues hold, could not be read.
        """
        counts = (await self.counts()).value
        history = await worker_history(self.sources.broker, name)
        found = await self.all_workers()
        view = next((one for one in found.value if one.name == name), None)
        if view is None or not in_scope(view, scope):
            raise EdgeError(ErrorCode.NOT_FOUND, f"there is no worker {name}: the list of workers shows all names")
        entry = self.sources.fleet.entry(name)
        keys = [(view.access.team, queue) for queue in view.settings.queues]
        return WorkerDetail(
            row=self._row(view, scope),
            jobs=() if entry is None else tuple(self._jobs(entry, scope)),
            history=history,
            missing=what_is_missing(
                view,
                entry,
                self.sources.centre_airflow,
                {key: self.sources.desired.is_paused(*key) for key in keys},
                frozenset(counts.consumers) | frozenset(counts.records),
            ),
            as_of=found.as_of,
        )

    async def sites(self, query: SiteQuery, scope: AccessScope) -> SitePage:
        """A page of sites; errors as for `workers`."""
        found = await self.site_rows(scope)
        rows = page(
            matching_sites(found.value, query), SITE_ORDER, sort=query.sort, cursor=query.cursor, limit=query.limit
        )
        return SitePage(items=tuple(rows.rows), total=rows.total, next=rows.next, as_of=found.as_of)

    async def queues(self, query: QueueQuery, scope: AccessScope) -> QueuePage:
        """A page of queues; errors as for `workers`."""
        found = await self.queue_rows(scope)
        matching = matching_queues(found.value, query)
        rows = page(matching, QUEUE_ORDER, sort=query.sort, cursor=query.cursor, limit=query.limit)
        return QueuePage(items=tuple(rows.rows), total=rows.total, next=rows.next, as_of=found.as_of)

    async def all_workers(self) -> Dated[list[WorkerView]]:
        """See `WorkerIndex.all`."""
        if not self._was_ready:
            await self.sources.ready()
            self._was_ready = True
        return await self.index.all()

    async def site_rows(self, scope: AccessScope) -> Dated[list[SiteRow]]:
        """All sites that an operator may see."""
        found = await self.all_workers()
        views = (view for view in found.value if scope.is_everything or in_scope(view, scope))
        return Dated(site_rows(views, self.sources.desired, datetime.now(UTC)), found.as_of)

    async def queue_rows(self, scope: AccessScope) -> Dated[list[QueueRow]]:
        """All queues that an operator may see."""
        counts = await self.counts()
        found = await self.all_workers()
        desired = self.sources.desired
        served = served_queues(found.value, desired, scope, self.sources.centre_airflow)
        if scope.sites is None:
            rows = queue_rows(counts.value, served, self.flow, desired)
        else:
            workers = [view.name for view in found.value if scope.has_site(view.site)]
            rows = queue_rows_of_sites(counts.value, served, self.flow, desired, workers)
        return Dated([row for row in rows if scope.has_queue(row.queue)], min(counts.as_of, found.as_of))

    async def existing_queues(self) -> set[QueueKey]:
        """Team and name of each queue that exists, for all scopes; errors as for `workers`."""
        counts = await self.counts()
        found = await self.all_workers()
        served = served_queues(found.value, self.sources.desired, AccessScope(), self.sources.centre_airflow)
        return existing_queues(counts.value, served, self.flow)

    async def counts(self) -> Dated[QueueCounts]:
        """Messages and records of all queues."""
        if not self._was_ready:
            await self.sources.ready()
            self._was_ready = True
        return await self._counts.get()

    @property
    def kept_for_s(self) -> float:
        """For how long a reader may get what was computed before this moment; negative if no reader does."""
        return max(self._counts.kept_for_s, self.index.kept_for_s)

    def site_of(self, worker: str) -> str | None:
        """The site of a worker; known after `all_workers`."""
        view = self.index.get(worker)
        return None if view is None else view.site

    async def _count(self) -> QueueCounts:
        # Messages first: a job that starts meanwhile must not seem to be held back.
        consumers = await read_consumers(self.sources.broker)
        return QueueCounts(consumers, await count_records(self.sources.mirror.jobs()))

    def _jobs(self, entry: WorkerEntry, scope: AccessScope) -> Iterator[WorkerJob]:
        """Without those of queues that the caller may not see."""
        for reported in entry.jobs:
            job = _worker_job(self.sources.mirror.get(reported.id), reported, self.site_of)
            if scope.queues is None or (job.queue is not None and scope.has_queue(job.queue)):
                yield job

    def _row(self, view: WorkerView, scope: AccessScope) -> WorkerRow:
        entry = self.sources.fleet.entry(view.name)
        jobs = () if entry is None else tuple(islice(self._jobs(entry, scope), MAX_JOBS_OF_ROW))
        return worker_row(view, entry, jobs, self.sources.centre_airflow, datetime.now(UTC))


def _worker_job(
    watched: WatchedJob | None, reported: StoredJobReport, site_of: Callable[[str], str | None]
) -> WorkerJob:
    if watched is None:
        return WorkerJob(job=reported.id, phase=reported.phase)
    row = job_row(watched, site_of)
    return WorkerJob(
        job=reported.id,
        phase=reported.phase,
        queue=row.queue,
        task=row.task,
        dag_id=row.dag_id,
        run_id=row.run_id,
        task_id=row.task_id,
        map_index=row.map_index,
        try_number=row.try_number,
        started_at=row.started_at,
    )
