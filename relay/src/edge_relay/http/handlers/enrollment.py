"""`POST /v1/enroll`: an enrolment token becomes a worker. Repeating the call changes nothing."""

from aiohttp import web

from edge_relay.http.bearer import bearer
from edge_relay.http.bodies import JsonBodies, json_response
from edge_relay.http.callers import Callers
from edge_relay.limits.addresses import group
from edge_relay.workers.enrollment import WorkerEnrollment
from edge_schemas.wire import routes
from edge_schemas.wire.workers import EnrollRequest, hash_secret


class EnrollmentHandlers:
    """Enrolment, on the workers' listener."""

    def __init__(self, callers: Callers, bodies: JsonBodies, enrollment: WorkerEnrollment) -> None:
        self._callers = callers
        self._bodies = bodies
        self._enrollment = enrollment

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [web.post(routes.ENROLL, self.enroll)]

    async def enroll(self, request: web.Request) -> web.Response:
        """Trade a use of the token for a worker's name, queues, site and team."""
        token = bearer(request)
        # Before the body: a body is read only from a caller with a token.
        await self._enrollment.check_token(token, group(self._callers.address(request)))
        owner = hash_secret(token)
        self._callers.recognize(request, owner)
        body = await self._bodies.small(request, owner, EnrollRequest)
        return json_response(await self._enrollment.enroll(token, body))
