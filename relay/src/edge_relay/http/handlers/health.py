"""Is the process alive, can it serve, what does it count."""

import asyncio

import orjson
from aiohttp import web

from edge_broker import layout
from edge_broker.connection.errors import BrokerUnavailable
from edge_relay.http import keys
from edge_relay.http.bodies import JSON_TYPE
from edge_relay.metrics.exposition import CONTENT_TYPE, render
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode

LAYOUT_FOR_S = 30.0
"""A layout that was right is not looked at again for this long: probes come every few seconds."""


class LayoutCheck:
    """Remembers for a while that the layout was found right."""

    def __init__(self) -> None:
        self._good_until = 0.0

    def forget(self) -> None:
        """Look again the next time."""
        self._good_until = 0.0

    async def require(self, app: web.Application) -> None:
        """Refuse while streams are missing or wrong.

        Raises:
            EdgeError: `broker_unavailable`, also when the broker can't be asked.
        """
        now = asyncio.get_running_loop().time()
        if now < self._good_until:
            return
        problems = await layout.check(app[keys.BROKER])
        if problems:
            raise EdgeError(ErrorCode.BROKER_UNAVAILABLE, "; ".join(problems), retry_after_s=5.0)
        self._good_until = now + LAYOUT_FOR_S


LAYOUT: web.AppKey[LayoutCheck] = web.AppKey("layout_check", LayoutCheck)


async def alive(_: web.Request) -> web.Response:
    """`GET /healthz`: the process answers."""
    return _ok()


async def ready(request: web.Request) -> web.Response:
    """`GET /readyz`: the broker is reachable, its streams are there, and the replica is not stopping."""
    app = request.app
    app[keys.LIFECYCLE].check()
    if not app[keys.BROKER].connected:
        raise BrokerUnavailable("there is no connection to NATS at the moment")
    await app[LAYOUT].require(app)
    if not app[keys.RECEIPT_KEY].ready.is_set() or not app[keys.CREDENTIALS].complete.is_set():
        raise BrokerUnavailable("credentials are being read")
    return _ok()


async def metrics(request: web.Request) -> web.Response:
    """`GET /metrics` in Prometheus' text format; on the operators' listener only."""
    return web.Response(body=await render(request.app[keys.METRICS].registry), headers={"Content-Type": CONTENT_TYPE})


def routes_of_both(app: web.Application) -> None:
    """What load balancers and supervisors ask, on either listener."""
    app[LAYOUT] = LayoutCheck()
    app.router.add_get(routes.HEALTHZ, alive)
    app.router.add_get(routes.READYZ, ready)


def routes_of_operators(app: web.Application) -> None:
    """What only operators may see."""
    app.router.add_get(routes.METRICS, metrics)


def _ok() -> web.Response:
    return web.Response(body=orjson.dumps({"status": "ok"}), content_type=JSON_TYPE)
