"""`GET /v1/worker`: what a credential grants, and what the worker's runtime must match. Changes nothing."""

from datetime import UTC, datetime
from importlib.metadata import version

from aiohttp import web

from edge_relay.gate.centre import Centre
from edge_relay.http.bodies import json_response
from edge_relay.http.callers import Callers
from edge_schemas.gate.centre import WorkerFacts
from edge_schemas.wire import routes
from edge_schemas.wire.polls import SUPPORTED_PROTOCOLS


class WorkerHandlers:
    """A worker's own facts, on the workers' listener."""

    def __init__(self, callers: Callers, centre: Centre) -> None:
        self._callers = callers
        self._centre = centre
        self._version = version("edge-relay")

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [web.get(routes.WORKER, self.show)]

    async def show(self, request: web.Request) -> web.Response:
        """Also for a worker whose agent polls at the same time: this call is no contact."""
        principal = await self._callers.worker(request)
        facts = WorkerFacts(
            worker=principal.worker,
            site=principal.site,
            team=principal.team,
            queues=principal.settings.queues,
            protocols=tuple(SUPPORTED_PROTOCOLS),
            relay_version=self._version,
            centre=await self._centre.facts(),
            now=datetime.now(UTC),
        )
        return json_response(facts)
