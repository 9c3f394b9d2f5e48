"""`GET /v1/admin/audit`: who did what."""

from aiohttp import web

from edge_relay.audit_list import AuditFilter, AuditList
from edge_relay.http.bodies import json_response
from edge_relay.http.operator_callers import OperatorCallers
from edge_relay.http.queries import parse_query
from edge_schemas.admin.access_queries import AuditQuery
from edge_schemas.wire import routes


class AuditHandlers:
    """The audit, on the operators' listener."""

    def __init__(self, callers: OperatorCallers, audit: AuditList) -> None:
        self._callers = callers
        self._audit = audit

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [web.get(routes.ADMIN_AUDIT, self.show)]

    async def show(self, request: web.Request) -> web.Response:
        """A page of events, the newest first."""
        operator = await self._callers.operator(request)
        query = parse_query(request, AuditQuery)
        wanted = AuditFilter(
            kind=query.kind,
            target=query.target,
            action=query.action,
            actor=query.actor,
            text=query.text,
            since=query.since,
            until=query.until,
        )
        return json_response(await self._audit.page(wanted, operator.scope, limit=query.limit, before=query.cursor))
