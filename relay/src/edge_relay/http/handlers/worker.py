"""`GET /v1/worker`: what the asking credential is good for, and what its runtime must match. Changes nothing."""

from datetime import UTC, datetime
from importlib.metadata import version

from aiohttp import web

from edge_relay.http import keys
from edge_relay.http.bodies import json_response
from edge_relay.http.callers import require_worker
from edge_schemas.gate.centre import WorkerFacts
from edge_schemas.wire import routes
from edge_schemas.wire.polls import SUPPORTED_PROTOCOLS


def add_routes(app: web.Application) -> None:
    """For the workers' listener."""
    app.router.add_get(routes.WORKER, show)


async def show(request: web.Request) -> web.Response:
    """Also for a worker whose agent polls at the same time: this is no contact."""
    principal = await require_worker(request)
    facts = WorkerFacts(
        worker=principal.worker,
        site=principal.site,
        team=principal.team,
        queues=principal.settings.queues,
        protocols=tuple(SUPPORTED_PROTOCOLS),
        relay_version=version("edge-relay"),
        centre=await request.app[keys.CENTRE].facts(),
        now=datetime.now(UTC),
    )
    return json_response(facts)
