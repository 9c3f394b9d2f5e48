"""The list of jobs, and one job in full."""

from collections.abc import Iterable

from edge_broker.jetstream.stored import first_message
from edge_broker.records import RecordStore, RecordUnreadable, parse_record
from edge_broker.subjects import DEAD
from edge_relay.fleet.jobs.ended import EndedJobs
from edge_relay.fleet.jobs.rows import JOB_ORDER, IsVisible, job_row, matches, matching_jobs, record_row
from edge_relay.fleet.jobs.timeline import airflow_link, timeline
from edge_relay.fleet.lists.pages import page
from edge_relay.fleet.queues.rows import served_queues
from edge_relay.fleet.views import FleetViews
from edge_schemas.admin.access import AccessScope
from edge_schemas.admin.actions import JobFilter
from edge_schemas.admin.rows import JobDetail, JobPage
from edge_schemas.admin.view_queries import JobQuery
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.errors import EdgeError, ErrorCode

NEWEST_ENDED = "-ended_at"


class JobViews:
    """Jobs for operators.

    Args:
        views: Workers and queues.
        records: The records.
        airflow_url: Address of Airflow's UI, for links.
    """

    def __init__(self, views: FleetViews, records: RecordStore, airflow_url: str | None) -> None:
        self._views = views
        self._sources = views.sources
        self._records = records
        self._airflow_url = airflow_url
        self._ended = EndedJobs(views.sources.broker, views.sources.mirror)

    async def jobs(self, query: JobQuery, scope: AccessScope) -> JobPage:
        """A page of jobs.

        Raises:
            EdgeError: `invalid_request`: a bad cursor, or a sort that ended jobs do not have.
            BrokerUnavailable: Nothing is known yet, or the ended jobs could not be read.
        """
        is_visible = await self.visible(scope)
        site_of = self._views.site_of
        as_of = self._sources.fleet.clock.as_of()
        if query.ended or query.state is JobState.ENDED:
            if query.sort not in {None, NEWEST_ENDED}:
                raise EdgeError(
                    ErrorCode.INVALID_REQUEST, f"sort: ended jobs are listed in the order {NEWEST_ENDED} only"
                )
            text = (query.text or "").lower()
            jobs, cursor = await self._ended.page(
                lambda job: matches(job, query, text, site_of) and is_visible(job.team, job.queue, job.holder),
                cursor=query.cursor,
                limit=query.limit,
            )
            return JobPage(items=tuple(job_row(job, site_of) for job in jobs), next=cursor, as_of=as_of)
        found = await matching_jobs(self._sources.mirror.jobs(), query, site_of, is_visible)
        rows = page(found, JOB_ORDER, sort=query.sort or "created_at", cursor=query.cursor, limit=query.limit)
        items = tuple(job_row(job, site_of) for job in rows.rows)
        return JobPage(items=items, total=rows.total, next=rows.next, as_of=as_of)

    async def job(self, job: str, scope: AccessScope) -> JobDetail:
        """One job in full, without its work and without the last answer to its task.

        Raises:
            EdgeError: `not_found`.
            RecordUnreadable: Its record can't be read.
            BrokerUnavailable: Its record could not be read.
        """
        is_visible = await self.visible(scope)
        record = await self._record(job)
        holder = None if record is None or record.holder is None else record.holder.worker
        if record is None or not is_visible(record.team, record.queue, holder):
            raise EdgeError(ErrorCode.NOT_FOUND, "there is no such job, or it ended more than seven days ago")
        return JobDetail(
            row=record_row(record, self._views.site_of),
            record=record.model_copy(update={"job": None, "last_write": None}),
            timeline=timeline(record),
            bundle=None if record.job is None else record.job.bundle,
            airflow_url=airflow_link(self._airflow_url, record),
            as_of=self._sources.fleet.clock.as_of(),
        )

    async def select(self, where: JobFilter, scope: AccessScope) -> list[str]:
        """The unfinished jobs that match a filter, in the order of their creation."""
        is_visible = await self.visible(scope)
        query = JobQuery(**where.model_dump())
        found = await matching_jobs(self._sources.mirror.jobs(), query, self._views.site_of, is_visible)
        return [job.id for job in sorted(found, key=lambda job: (job.created_at, job.id))]

    async def hidden(self, jobs: Iterable[str], scope: AccessScope) -> set[str]:
        """Which of these jobs an operator may not see; a job that is not unfinished is hidden from a limited one."""
        if scope.is_everything:
            return set()
        is_visible = await self.visible(scope)
        found = ((job, self._sources.mirror.get(job)) for job in jobs)
        return {job for job, one in found if one is None or not is_visible(one.team, one.queue, one.holder)}

    async def visible(self, scope: AccessScope) -> IsVisible:
        """Which jobs an operator may see: of their queues, and at their sites or for a worker of these.

        A job that waits belongs to no site: who may see a site sees what waits in the queues of its workers.
        """
        workers = await self._views.all_workers()
        everything = scope.is_everything
        served = {} if everything else served_queues(workers.value, self._sources.desired, scope, None)
        site_of = self._views.site_of

        def is_visible(team: str | None, queue: str, holder: str | None) -> bool:
            if everything or not scope.has_queue(queue):
                return everything
            if holder is None:
                return scope.sites is None or (team, queue) in served
            return scope.has_site(site_of(holder) or "")

        return is_visible

    async def _record(self, job: str) -> JobRecord | None:
        """The record; that of a parked job also after it is gone, as its history has it."""
        record = await self._records.get(job)
        if record is not None:
            return record
        message = await first_message(self._sources.broker, DEAD, f"edge.dead.*.*.{job}")
        try:
            return None if message is None else parse_record(job, message.data)
        except RecordUnreadable:
            return None
