"""`/v1/admin`: what operators do, on the internal listener, with an access token."""

from aiohttp import web

from edge_relay.http.bodies import JsonBodies, json_response
from edge_relay.http.callers import Callers
from edge_relay.workers.administration import WorkerAdministration
from edge_schemas.admin.access import Role
from edge_schemas.wire import routes
from edge_schemas.wire.workers import EnrollTokenRequest


class AdminHandlers:
    """Tokens and workers, on the operators' listener."""

    def __init__(self, callers: Callers, bodies: JsonBodies, workers: WorkerAdministration) -> None:
        self._callers = callers
        self._bodies = bodies
        self._workers = workers

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [
            web.post(routes.ADMIN_ENROLL_TOKENS, self.create_enroll_token),
        ]

    async def create_enroll_token(self, request: web.Request) -> web.Response:
        """Create an enrolment token. A repeat creates another token; the first one expires unused."""
        operator = await self._callers.operator(request, Role.ADMIN)
        body = await self._bodies.large(request, operator.name, EnrollTokenRequest)
        return json_response(await self._workers.create_enroll_token(body, operator=operator), status=201)
