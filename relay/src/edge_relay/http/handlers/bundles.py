"""`GET /v1/bundles/{bundle}/{digest}` and its pieces: the code that a worker's job runs."""

import structlog
from aiohttp import web

from edge_relay.bundles.delivery import BundleDelivery
from edge_relay.http.bodies import JsonBodies
from edge_relay.http.callers import Callers
from edge_relay.http.queries import parse_query
from edge_relay.http.raw_bodies import pass_on, send
from edge_schemas.bundles.manifest import is_digest
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.job_calls import MAX_PIECES_REQUEST_BYTES, BundleQuery, PiecesRequest

MANIFEST_TYPE = "application/zstd"
PIECES_TYPE = "application/octet-stream"
# aiohttp's own pattern excludes braces, which a name may hold.
MANIFEST_PATH = routes.BUNDLE.replace("{bundle}", "{bundle:[^/]+}")
PIECES_PATH = routes.BUNDLE_PIECES.replace("{bundle}", "{bundle:[^/]+}")


class BundleHandlers:
    """Manifests and pieces of bundles, on the workers' listener."""

    def __init__(self, callers: Callers, bodies: JsonBodies, delivery: BundleDelivery) -> None:
        self._callers = callers
        self._bodies = bodies
        self._delivery = delivery

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [
            web.get(MANIFEST_PATH, self.show_manifest, allow_head=False),
            web.post(PIECES_PATH, self.show_pieces),
        ]

    async def show_manifest(self, request: web.Request) -> web.StreamResponse:
        """The manifest's frame, as it is stored."""
        principal = await self._callers.worker(request)
        bundle, digest = version_of(request)
        job = parse_query(request, BundleQuery).job
        structlog.contextvars.bind_contextvars(job=job)
        with self._delivery.answering(principal.worker):
            frame = await self._delivery.manifest(principal, job, bundle, digest)
            headers = {"Content-Type": MANIFEST_TYPE, "ETag": f'"{digest}"'}
            return await send(request, 200, headers, frame)

    async def show_pieces(self, request: web.Request) -> web.StreamResponse:
        """Pieces of files, each as the length of its frame and the frame."""
        principal = await self._callers.worker(request)
        bundle, digest = version_of(request)
        wanted = await self._bodies.up_to(request, principal.worker, PiecesRequest, MAX_PIECES_REQUEST_BYTES)
        structlog.contextvars.bind_contextvars(job=wanted.job)
        with self._delivery.answering(principal.worker):
            body = await self._delivery.pieces(principal, bundle, digest, wanted)
            return await pass_on(request, 200, {"Content-Type": PIECES_TYPE}, body, None)


def version_of(request: web.Request) -> tuple[str, str]:
    """The bundle and the digest that the path of a call names.

    Raises:
        EdgeError: `invalid_request`: it can't be a digest.
    """
    digest = request.match_info["digest"]
    if not is_digest(digest):
        raise EdgeError(ErrorCode.INVALID_REQUEST, "the path must name a version by its digest, 64 hexadecimal digits")
    return request.match_info["bundle"], digest
