"""`GET /openapi.json`: what this relay serves, for people and for tools. Needs no credential."""

import orjson
from aiohttp import web

from edge_relay.http.bodies import JSON_TYPE
from edge_schemas.openapi.document import openapi_document
from edge_schemas.wire import routes

_DOCUMENT: web.AppKey[bytes] = web.AppKey("openapi_document", bytes)


def add_routes(app: web.Application) -> None:
    """For the workers' listener. The document is made once, at the start."""
    app[_DOCUMENT] = orjson.dumps(openapi_document())
    app.router.add_get(routes.OPENAPI, describe)


async def describe(request: web.Request) -> web.Response:
    """The OpenAPI document."""
    return web.Response(body=request.app[_DOCUMENT], content_type=JSON_TYPE)
