"""`/v1/worker`: what a credential grants and what the worker's runtime must match; the rotation of its secret."""

from datetime import UTC, datetime
from importlib.metadata import version

from aiohttp import web

from edge_relay.gate.centre import Centre
from edge_relay.http.bodies import JsonBodies, json_response
from edge_relay.http.callers import Callers
from edge_relay.workers.rotation import WorkerRotation
from edge_schemas.gate.centre import SigningKeys, WorkerFacts
from edge_schemas.wire import routes
from edge_schemas.wire.polls import SUPPORTED_PROTOCOLS
from edge_schemas.wire.workers import SecretRequest


class WorkerHandlers:
    """A worker's own facts, on the workers' listener."""

    def __init__(self, callers: Callers, bodies: JsonBodies, centre: Centre, rotation: WorkerRotation) -> None:
        self._callers = callers
        self._bodies = bodies
        self._rotation = rotation
        self._centre = centre
        self._version = version("edge-relay")

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [
            web.get(routes.WORKER, self.show),
            web.get(routes.WORKER_SIGNING_KEYS, self.signing_keys),
            web.post(routes.WORKER_SECRET, self.register_secret),
        ]

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

    async def signing_keys(self, request: web.Request) -> web.Response:
        """The key sets, as a keeper gave them."""
        await self._callers.worker(request)
        facts = await self._centre.facts()
        return json_response(SigningKeys(sets=None if facts is None else facts.signing_keys))

    async def register_secret(self, request: web.Request) -> web.Response:
        """Register the hash of the worker's next secret. A repeat changes nothing."""
        principal = await self._callers.worker(request)
        body = await self._bodies.small(request, principal.worker, SecretRequest)
        await self._rotation.register(principal, body)
        return web.Response(status=204)
