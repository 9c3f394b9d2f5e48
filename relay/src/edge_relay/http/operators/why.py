"""`/v1/admin/why`: why a job or a task instance is still queued."""

from aiohttp import web

from edge_relay.http.bodies import job_of, json_response
from edge_relay.http.operator_callers import OperatorCallers
from edge_relay.http.queries import parse_query
from edge_relay.why.answers import WhyAnswers
from edge_schemas.admin.access import Role
from edge_schemas.why.task_query import TaskQuery
from edge_schemas.wire import routes


class WhyHandlers:
    """Causes, on the operators' listener."""

    def __init__(self, callers: OperatorCallers, answers: WhyAnswers) -> None:
        self._callers = callers
        self._answers = answers

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [web.get(routes.ADMIN_JOB_WHY, self.of_job), web.get(routes.ADMIN_WHY, self.of_task)]

    async def of_job(self, request: web.Request) -> web.Response:
        """Why a job has not started, or what became of it."""
        operator = await self._callers.operator(request, Role.VIEWER)
        return json_response(await self._answers.of_job(job_of(request), operator))

    async def of_task(self, request: web.Request) -> web.Response:
        """Why a task instance has not started."""
        operator = await self._callers.operator(request, Role.VIEWER)
        return json_response(await self._answers.of_task(parse_query(request, TaskQuery), operator))
