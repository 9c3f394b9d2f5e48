"""What operators do with jobs."""

from aiohttp import web

from edge_relay.fleet.job_views import JobViews
from edge_relay.http.bodies import JsonBodies, json_response
from edge_relay.http.operator_callers import OperatorCallers
from edge_relay.jobs.administration import JobAdministration
from edge_schemas.admin.access import AccessScope, Role
from edge_schemas.admin.actions import MAX_TARGETS, JobActionRequest
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode


class JobActionHandlers:
    """Cancels, redrives and purges jobs: one or thousands."""

    def __init__(self, callers: OperatorCallers, bodies: JsonBodies, views: JobViews, jobs: JobAdministration) -> None:
        self._callers = callers
        self._bodies = bodies
        self._views = views
        self._jobs = jobs

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [web.post(routes.ADMIN_JOB_ACTIONS, self.act)]

    async def act(self, request: web.Request) -> web.Response:
        """Act on the jobs that are named or match. A repeat changes nothing."""
        operator = await self._callers.operator(request, Role.OPERATOR)
        body = await self._bodies.large(request, operator.name, JobActionRequest)
        jobs = await self._targets(body, operator.scope)
        hidden = await self._views.hidden(jobs, operator.scope)
        return json_response(await self._jobs.act(body, jobs, hidden, operator=operator))

    async def _targets(self, body: JobActionRequest, scope: AccessScope) -> list[str]:
        if (body.jobs is None) == (body.where is None):
            raise EdgeError(ErrorCode.INVALID_REQUEST, "give either `jobs` or `where`")
        if body.jobs is not None:
            return list(dict.fromkeys(body.jobs))
        if body.where is None or not body.where.model_dump(exclude_none=True):
            raise EdgeError(ErrorCode.INVALID_REQUEST, "where: give at least one field")
        found = await self._views.select(body.where, scope)
        if len(found) > MAX_TARGETS:
            raise EdgeError(
                ErrorCode.INVALID_REQUEST,
                f"where: {len(found)} jobs match, and one call changes at most {MAX_TARGETS}: narrow the filter",
            )
        return found
