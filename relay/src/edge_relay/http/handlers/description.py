"""`GET /openapi.json`: the description of this relay's API, for people and for tools. Needs no credential."""

from functools import cache

import orjson
from aiohttp import web

from edge_relay.http.bodies import JSON_TYPE
from edge_schemas.openapi.document import openapi_document
from edge_schemas.wire import routes


class DescriptionHandlers:
    """The API description, on the workers' listener. The document is made at the start, once in a process."""

    def __init__(self) -> None:
        self._document = _document()

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [web.get(routes.OPENAPI, self.describe)]

    async def describe(self, _: web.Request) -> web.Response:
        """The OpenAPI document."""
        return web.Response(body=self._document, content_type=JSON_TYPE)


@cache
def _document() -> bytes:
    """What takes most of the CPU of a relay's start; tests start hundreds of relays in a process."""
    return orjson.dumps(openapi_document())
