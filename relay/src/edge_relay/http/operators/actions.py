"""`POST /v1/admin/...-actions`: every change of workers, sites and queues by operators."""

from aiohttp import web

from edge_relay.actions.queue_actions import QueueActions
from edge_relay.actions.site_actions import SiteActions
from edge_relay.actions.worker_actions import WorkerActions
from edge_relay.http.bodies import JsonBodies, json_response
from edge_relay.http.operator_callers import OperatorCallers
from edge_schemas.admin.access import Role
from edge_schemas.admin.actions import QueueActionRequest, SiteActionRequest, WorkerActionRequest
from edge_schemas.wire import routes


class ActionHandlers:
    """Actions, on the operators' listener. A repeat of a call changes nothing."""

    def __init__(
        self,
        callers: OperatorCallers,
        bodies: JsonBodies,
        workers: WorkerActions,
        sites: SiteActions,
        queues: QueueActions,
    ) -> None:
        self._callers = callers
        self._bodies = bodies
        self._workers = workers
        self._sites = sites
        self._queues = queues

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [
            web.post(routes.ADMIN_WORKER_ACTIONS, self.workers),
            web.post(routes.ADMIN_SITE_ACTIONS, self.sites),
            web.post(routes.ADMIN_QUEUE_ACTIONS, self.queues),
        ]

    async def workers(self, request: web.Request) -> web.Response:
        """Act on workers."""
        operator = await self._callers.operator(request, Role.OPERATOR)
        body = await self._bodies.large(request, operator.name, WorkerActionRequest)
        return json_response(await self._workers.act(body, operator))

    async def sites(self, request: web.Request) -> web.Response:
        """Act on sites."""
        operator = await self._callers.operator(request, Role.OPERATOR)
        body = await self._bodies.large(request, operator.name, SiteActionRequest)
        return json_response(await self._sites.act(body, operator))

    async def queues(self, request: web.Request) -> web.Response:
        """Act on queues."""
        operator = await self._callers.operator(request, Role.OPERATOR)
        body = await self._bodies.large(request, operator.name, QueueActionRequest)
        return json_response(await self._queues.act(body, operator))
