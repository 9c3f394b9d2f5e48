"""The calls with which a worker fetches the published code of its jobs."""

from typing import Final
from urllib.parse import quote

from edge_schemas.bundles.manifest import MAX_MANIFEST_FRAME_BYTES
from edge_schemas.gate.limits import CallLimits
from edge_schemas.wire import routes
from edge_schemas.wire.job_calls import PiecesRequest
from edge_schemas.wire.jobs import BundleRef
from edge_worker.relay.transport import AGAIN_S, Request, Sink, Transport

_LIMITS: Final = CallLimits(max_call_bytes=MAX_MANIFEST_FRAME_BYTES, call_setting="the limit of a manifest")


class BundleCalls:
    """Of one relay. Each call is made for a job that this worker holds and that runs the version."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def manifest(self, job: str, bundle: BundleRef) -> bytes:
        """The frame of the version's manifest."""
        request = Request("GET", _path(routes.BUNDLE, bundle), query=f"job={job}", limits=_LIMITS)
        return (await self._transport.send_twice(request, again_s=AGAIN_S)).body

    async def pieces(self, job: str, bundle: BundleRef, wanted: tuple[str, ...], *, offset: int, sink: Sink) -> None:
        """Fetches the frames of pieces.

        Args:
            job: Its id.
            bundle: Its version.
            wanted: The pieces.
            offset: So many bytes of the first one's frame are left out.
            sink: Gets the bytes while they arrive, also if the answer breaks off.
        """
        body = PiecesRequest(job=job, pieces=wanted, offset=offset).model_dump_json().encode()
        headers = {"Content-Type": "application/json"}
        await self._transport.send(Request("POST", _path(routes.BUNDLE_PIECES, bundle), body, headers, sink=sink))


def _path(route: str, bundle: BundleRef) -> str:
    return route.format(bundle=quote(bundle.name, safe=""), digest=bundle.digest)
