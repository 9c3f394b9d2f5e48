"""Lists of workers, sites, queues and jobs, and one worker or job in full."""

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from edge_relay.fleet.job_views import JobViews
from edge_relay.fleet.views import FleetViews
from edge_relay.http.bodies import job_of
from edge_relay.http.operator_callers import OperatorCallers
from edge_relay.http.queries import conditional, parse_query
from edge_schemas.admin.view_queries import JobQuery, QueueQuery, SiteQuery, WorkerQuery
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.ids import LABEL_RULE, WorkerName

_WORKER: TypeAdapter[str] = TypeAdapter(WorkerName)


class ViewHandlers:
    """What operators see. Any role may see what its scope holds."""

    def __init__(self, callers: OperatorCallers, views: FleetViews, jobs: JobViews) -> None:
        self._callers = callers
        self._views = views
        self._jobs = jobs

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [
            web.get(routes.ADMIN_WORKERS, self.workers),
            web.get(routes.ADMIN_WORKER, self.worker),
            web.get(routes.ADMIN_SITES, self.sites),
            web.get(routes.ADMIN_QUEUES, self.queues),
            web.get(routes.ADMIN_JOBS, self.jobs),
            web.get(routes.ADMIN_JOB, self.job),
        ]

    async def workers(self, request: web.Request) -> web.Response:
        """A page of workers."""
        operator = await self._callers.operator(request)
        return conditional(request, await self._views.workers(parse_query(request, WorkerQuery), operator.scope))

    async def worker(self, request: web.Request) -> web.Response:
        """One worker in full."""
        operator = await self._callers.operator(request)
        return conditional(request, await self._views.worker(worker_of(request), operator.scope))

    async def sites(self, request: web.Request) -> web.Response:
        """A page of sites."""
        operator = await self._callers.operator(request)
        return conditional(request, await self._views.sites(parse_query(request, SiteQuery), operator.scope))

    async def queues(self, request: web.Request) -> web.Response:
        """A page of queues."""
        operator = await self._callers.operator(request)
        return conditional(request, await self._views.queues(parse_query(request, QueueQuery), operator.scope))

    async def jobs(self, request: web.Request) -> web.Response:
        """A page of jobs."""
        operator = await self._callers.operator(request)
        return conditional(request, await self._jobs.jobs(parse_query(request, JobQuery), operator.scope))

    async def job(self, request: web.Request) -> web.Response:
        """One job in full, without its workload and without the last answer to its task."""
        operator = await self._callers.operator(request)
        return conditional(request, await self._jobs.job(job_of(request), operator.scope))


def worker_of(request: web.Request) -> str:
    """The worker that the path of a call names.

    Raises:
        EdgeError: `invalid_request`: it can't be a worker's name.
    """
    try:
        return _WORKER.validate_python(request.match_info["worker"])
    except ValidationError:
        raise EdgeError(ErrorCode.INVALID_REQUEST, f"a worker's name is {LABEL_RULE}") from None
