"""`/v1/admin/access-tokens` and `/v1/admin/enroll-tokens`."""

from aiohttp import web

from edge_relay.http.bodies import JsonBodies, json_response
from edge_relay.http.operator_callers import OperatorCallers
from edge_relay.http.queries import parse_query
from edge_relay.workers.access import AccessAdministration
from edge_schemas.admin.access import AccessTokenRequest, Role
from edge_schemas.admin.access_queries import RevokeQuery, TokenQuery
from edge_schemas.wire import routes
from edge_schemas.wire.workers import EnrollTokenRequest


class AccessHandlers:
    """Tokens, on the operators' listener."""

    def __init__(self, callers: OperatorCallers, bodies: JsonBodies, access: AccessAdministration) -> None:
        self._callers = callers
        self._bodies = bodies
        self._access = access

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [
            web.get(routes.ADMIN_ACCESS_TOKENS, self.list_access_tokens),
            web.post(routes.ADMIN_ACCESS_TOKENS, self.create_access_token),
            web.delete(routes.ADMIN_ACCESS_TOKEN, self.revoke_access_token),
            web.get(routes.ADMIN_ENROLL_TOKENS, self.list_enroll_tokens),
            web.post(routes.ADMIN_ENROLL_TOKENS, self.create_enroll_token),
            web.delete(routes.ADMIN_ENROLL_TOKEN, self.revoke_enroll_token),
        ]

    async def list_access_tokens(self, request: web.Request) -> web.Response:
        """All access tokens, with the revoked ones."""
        operator = await self._callers.operator(request, Role.ADMIN)
        query = parse_query(request, TokenQuery)
        return json_response(self._access.access_tokens(operator=operator, limit=query.limit, cursor=query.cursor))

    async def create_access_token(self, request: web.Request) -> web.Response:
        """Create an access token. A repeat creates another token."""
        operator = await self._callers.operator(request, Role.ADMIN)
        body = await self._bodies.large(request, operator.name, AccessTokenRequest)
        return json_response(await self._access.create_access_token(body, operator=operator), status=201)

    async def revoke_access_token(self, request: web.Request) -> web.Response:
        """End an access token and the sessions that were opened with it. A repeat changes nothing."""
        operator = await self._callers.operator(request, Role.ADMIN)
        query = parse_query(request, RevokeQuery)
        await self._access.revoke_access_token(request.match_info["token"], operator=operator, reason=query.reason)
        return web.Response(status=204)

    async def list_enroll_tokens(self, request: web.Request) -> web.Response:
        """Enrolment tokens that can be used, or could be a short time ago."""
        operator = await self._callers.operator(request, Role.ADMIN)
        query = parse_query(request, TokenQuery)
        page = await self._access.enroll_tokens(operator=operator, limit=query.limit, cursor=query.cursor)
        return json_response(page)

    async def create_enroll_token(self, request: web.Request) -> web.Response:
        """Create an enrolment token. A repeat creates another token; the first one expires unused."""
        operator = await self._callers.operator(request, Role.ADMIN)
        body = await self._bodies.large(request, operator.name, EnrollTokenRequest)
        return json_response(await self._access.create_enroll_token(body, operator=operator), status=201)

    async def revoke_enroll_token(self, request: web.Request) -> web.Response:
        """No further worker may enrol with the token. A repeat changes nothing."""
        operator = await self._callers.operator(request, Role.ADMIN)
        query = parse_query(request, RevokeQuery)
        await self._access.revoke_enroll_token(request.match_info["token"], operator=operator, reason=query.reason)
        return web.Response(status=204)
