"""`/v1/admin/policies` and `/v1/admin/accesses`: what jobs may use of Airflow, and what they used."""

from aiohttp import web

from edge_relay.fleet.policies import PolicyViews
from edge_relay.http.bodies import json_response
from edge_relay.http.operator_callers import OperatorCallers
from edge_relay.http.queries import parse_query
from edge_schemas.admin.policies import AccessQuery, PolicyQuery
from edge_schemas.wire import routes


class PolicyHandlers:
    """Policies and accesses, on the operators' listener."""

    def __init__(self, callers: OperatorCallers, views: PolicyViews) -> None:
        self._callers = callers
        self._views = views

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [web.get(routes.ADMIN_POLICIES, self.policies), web.get(routes.ADMIN_ACCESSES, self.accesses)]

    async def policies(self, request: web.Request) -> web.Response:
        """All policies."""
        operator = await self._callers.operator(request)
        parse_query(request, PolicyQuery)
        return json_response(await self._views.policies(operator.scope))

    async def accesses(self, request: web.Request) -> web.Response:
        """What the jobs of a queue or a site used."""
        operator = await self._callers.operator(request)
        return json_response(await self._views.accesses(parse_query(request, AccessQuery), operator.scope))
