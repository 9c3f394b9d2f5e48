"""`/v1/admin`: what operators do, on the internal listener, with an access token."""

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from edge_relay.http.bodies import JsonBodies, json_response
from edge_relay.http.callers import Callers
from edge_relay.workers.administration import WorkerAdministration
from edge_schemas.admin.access import Role
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.ids import LABEL_RULE, WorkerName
from edge_schemas.wire.workers import EnrollTokenRequest, ResolveRequest

_WORKER: TypeAdapter[str] = TypeAdapter(WorkerName)


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
            web.post(routes.ADMIN_WORKER_REVOKE, self.revoke_worker),
            web.post(routes.ADMIN_WORKER_RESOLVE, self.resolve_conflict),
        ]

    async def create_enroll_token(self, request: web.Request) -> web.Response:
        """Create an enrolment token. A repeat creates another token; the first one expires unused."""
        operator = await self._callers.operator(request, Role.ADMIN)
        body = await self._bodies.large(request, operator.name, EnrollTokenRequest)
        return json_response(await self._workers.create_enroll_token(body, operator=operator), status=201)

    async def revoke_worker(self, request: web.Request) -> web.Response:
        """End a worker's credential. A repeat changes nothing."""
        operator = await self._callers.operator(request, Role.ADMIN)
        await self._workers.revoke(_worker_of(request), operator=operator)
        return web.Response(status=204)

    async def resolve_conflict(self, request: web.Request) -> web.Response:
        """Decide which of two agents is the worker. A repeat changes nothing."""
        operator = await self._callers.operator(request, Role.OPERATOR)
        worker = _worker_of(request)
        body = await self._bodies.large(request, operator.name, ResolveRequest)
        await self._workers.resolve_conflict(worker, body, operator=operator)
        return web.Response(status=204)


def _worker_of(request: web.Request) -> str:
    try:
        return _WORKER.validate_python(request.match_info["worker"])
    except ValidationError:
        raise EdgeError(ErrorCode.INVALID_REQUEST, f"a worker's name is {LABEL_RULE}") from None
