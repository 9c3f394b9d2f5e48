"""The overview, and the stream of changes."""

from aiohttp import web

from edge_broker.connection.errors import BrokerUnavailable
from edge_relay.fleet.changes import RETRY_S, Changes
from edge_relay.fleet.overview import overview
from edge_relay.fleet.views import FleetViews
from edge_relay.http.operator_callers import OperatorCallers
from edge_relay.http.queries import conditional
from edge_relay.workers.enroll_command import EnrollCommand
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError

EVENTS_TYPE = "text/event-stream"


class OverviewHandlers:
    """The fleet in one look, and what has changed since."""

    def __init__(self, callers: OperatorCallers, views: FleetViews, changes: Changes, command: EnrollCommand) -> None:
        self._callers = callers
        self._views = views
        self._changes = changes
        self._command = command

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [
            web.get(routes.ADMIN_OVERVIEW, self.overview),
            web.get(routes.ADMIN_CHANGES, self.changes),
        ]

    async def overview(self, request: web.Request) -> web.Response:
        """The fleet in one look."""
        operator = await self._callers.operator(request)
        return conditional(request, await overview(self._views, operator.scope, self._command))

    async def changes(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events until the client leaves or the replica stops."""
        operator = await self._callers.operator(request)
        events = self._changes.follow(operator.owner)
        first = await anext(events)  # a refusal is an answer of its own
        response = web.StreamResponse(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        response.content_type = EVENTS_TYPE
        try:
            await response.prepare(request)
            await response.write(f"retry: {int(RETRY_S * 1000)}\n\n".encode() + first)
            async for event in events:
                if not await self._is_allowed(request):
                    break
                await response.write(event)
            await response.write_eof()
        finally:
            await events.aclose()
        return response

    async def _is_allowed(self, request: web.Request) -> bool:
        """Whether the token is still valid: a stream must not outlive it. The next request tells the client why."""
        try:
            await self._callers.operator(request)
        except (EdgeError, BrokerUnavailable):
            return False
        return True
