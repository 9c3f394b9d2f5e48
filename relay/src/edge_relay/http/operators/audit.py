"""`GET /v1/admin/audit`: who did what."""

from typing import Annotated

from aiohttp import web
from pydantic import AwareDatetime, Field

from edge_relay.audit_list import AuditFilter, AuditList
from edge_relay.http.bodies import json_response
from edge_relay.http.operator_callers import OperatorCallers
from edge_relay.http.operators.queries import read_query
from edge_schemas.admin.audit import TargetKind
from edge_schemas.admin.rows import DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS
from edge_schemas.wire import routes
from edge_schemas.wire.base import Inbound

_Text = Annotated[str | None, Field(min_length=1, max_length=200)]


class AuditQuery(Inbound):
    """Which events a page of the audit shows."""

    kind: TargetKind | None = None
    target: _Text = None
    action: Annotated[str | None, Field(pattern=r"^[a-z0-9-]{1,60}$")] = None
    actor: _Text = None
    text: _Text = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    cursor: Annotated[int | None, Field(ge=1, le=2**63)] = None
    limit: int = Field(default=DEFAULT_PAGE_ROWS, ge=1, le=MAX_PAGE_ROWS)


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
        query = read_query(request, AuditQuery)
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
