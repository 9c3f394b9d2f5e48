"""Whether the process is alive, whether it can serve, and its metrics."""

import orjson
from aiohttp import web

from edge_relay.http.bodies import JSON_TYPE
from edge_relay.metrics.exports import Exports
from edge_relay.metrics.exposition import CONTENT_TYPE, render
from edge_relay.readiness import Readiness
from edge_schemas.wire import routes


class HealthHandlers:
    """What load balancers and supervisors probe, on both listeners."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [web.get(routes.HEALTHZ, self.alive), web.get(routes.READYZ, self.ready)]

    async def alive(self, _: web.Request) -> web.Response:
        """`GET /healthz`: the process answers."""
        return _ok()

    async def ready(self, _: web.Request) -> web.Response:
        """`GET /readyz`: the broker can be reached, its streams are correct, and the replica is not stopping."""
        await self._readiness.check()
        return _ok()


class MetricsHandlers:
    """The metrics, on the operators' listener only."""

    def __init__(self, exports: Exports) -> None:
        self._exports = exports

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [web.get(routes.METRICS, self.metrics)]

    async def metrics(self, _: web.Request) -> web.Response:
        """`GET /metrics`, in Prometheus' text format."""
        await self._exports.fleet.prepare()
        return web.Response(body=await render(self._exports.metrics.registry), headers={"Content-Type": CONTENT_TYPE})


def _ok() -> web.Response:
    return web.Response(body=orjson.dumps({"status": "ok"}), content_type=JSON_TYPE)
