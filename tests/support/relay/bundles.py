"""Published bundles for tests, and how a fake relay serves them."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from aiohttp import web

from edge_broker.bundles.store import BundleStore
from edge_broker.connection.broker import Broker
from edge_relay.bundles.access import check_offset, check_pieces, missing_piece
from edge_relay.http.bodies import read_model
from edge_relay.http.handlers.bundles import version_of
from edge_relay.http.queries import parse_query
from edge_schemas.bundles.manifest import BundleFile, Manifest, manifest_of, open_manifest, pack_manifest
from edge_schemas.bundles.pieces import PIECE_BYTES, length_of, pack_piece, piece_digest
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.job_calls import MAX_PIECES_REQUEST_BYTES, BundleQuery, PiecesRequest
from edge_schemas.wire.jobs import BundleRef, Job


@dataclass(frozen=True)
class MadeBundle:
    """A version of a bundle as it is stored.

    Attributes:
        frame: Of the manifest.
        frames: Of the pieces, by digest.
    """

    name: str
    manifest: Manifest
    frame: bytes
    frames: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def ref(self) -> BundleRef:
        return BundleRef(name=self.name, digest=self.digest)

    def run_by(self, job: Job) -> Job:
        """The job, running this version."""
        return job.model_copy(update={"bundle": self.ref})

    @property
    def path(self) -> str:
        """Of the manifest."""
        return bundle_path(routes.BUNDLE, self.name, self.digest)

    @property
    def pieces_path(self) -> str:
        return bundle_path(routes.BUNDLE_PIECES, self.name, self.digest)

    def answer(self, *pieces: str, offset: int = 0) -> bytes:
        """The body that answers a request for these pieces."""
        sent = b""
        for piece in pieces:
            frame = self.frames[piece]
            sent, offset = sent + length_of(frame) + frame[offset:], 0
        return sent


def bundle_path(route: str, name: str, digest: str) -> str:
    """A path as it is sent."""
    return route.format(bundle=quote(name, safe=""), digest=digest)


def make_bundle(files: Mapping[str, bytes], name: str = "dags", *, executable: Collection[str] = ()) -> MadeBundle:
    """A version with these files."""
    frames: dict[str, bytes] = {}
    listed = []
    for path, content in files.items():
        pieces = []
        for start in range(0, len(content), PIECE_BYTES):
            data = content[start : start + PIECE_BYTES]
            digest = piece_digest(data)
            pieces.append(digest)
            frames[digest] = frames.get(digest) or pack_piece(data)
        listed.append(BundleFile(path, path in executable, len(content), tuple(pieces)))
    manifest = manifest_of(listed)
    return MadeBundle(name, manifest, pack_manifest(manifest), frames)


async def publish_bundle(broker: Broker, bundle: MadeBundle) -> None:
    """Store a version in NATS as a publisher does; no entry names it."""
    store = BundleStore(broker)
    for digest, frame in bundle.frames.items():
        await store.put_piece(digest, frame)
    await store.put_manifest(bundle.digest, bundle.frame)


@dataclass
class FakeBundles:
    """What a fake relay has of bundles.

    Attributes:
        manifests: The frame of each, by digest. A test may damage it.
        frames: The frame of each piece, by digest. A test may damage one, or remove it.
        cut_after: The next answers with pieces are cut after so many bytes, one after the other.
        asked: The requests for pieces that were allowed.
        refuse_next: Answers of the next requests for pieces, in place of the pieces.
    """

    manifests: dict[str, bytes] = field(default_factory=dict)
    frames: dict[str, bytes] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)
    asked: list[PiecesRequest] = field(default_factory=list)
    refuse_next: list[EdgeError] = field(default_factory=list)

    def publish(self, bundle: MadeBundle) -> None:
        """Store a version."""
        self.manifests[bundle.digest] = bundle.frame
        self.frames.update(bundle.frames)

    def manifest(self, digest: str) -> web.Response:
        """The answer to an allowed request for a manifest."""
        headers = {"ETag": f'"{digest}"'}
        return web.Response(body=self._frame(digest), content_type="application/zstd", headers=headers)

    async def pieces(self, request: web.Request, digest: str, wanted: PiecesRequest) -> web.StreamResponse:
        """The answer to an allowed request for pieces."""
        if self.refuse_next:
            raise self.refuse_next.pop(0)
        check_pieces(wanted.pieces, open_manifest(self._frame(digest), digest).pieces)
        if wanted.pieces[0] not in self.frames:
            raise missing_piece(wanted.pieces[0])
        check_offset(wanted.offset, self.frames[wanted.pieces[0]])
        self.asked.append(wanted)
        headers = {"Content-Type": "application/octet-stream"}
        if (request_id := request.headers.get(routes.REQUEST_ID_HEADER)) is not None:
            headers[routes.REQUEST_ID_HEADER] = request_id  # before the answer begins
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        left = self.cut_after.pop(0) if self.cut_after else None
        offset = wanted.offset
        for piece in wanted.pieces:
            frame = self.frames.get(piece)
            sent = b"" if frame is None else (length_of(frame) + frame[offset:])[:left]
            await response.write(sent)
            left, offset = None if left is None else left - len(sent), 0
            if frame is None or left == 0:
                await _cut(request)
                break
        return response

    def _frame(self, digest: str) -> bytes:
        if digest not in self.manifests:
            raise EdgeError(ErrorCode.NOT_FOUND, "this version is no longer stored")
        return self.manifests[digest]


async def _cut(request: web.Request) -> None:
    """Close the connection behind what was written."""
    if request.transport is not None:
        request.transport.close()
    await asyncio.sleep(0)


def manifest_request(request: web.Request) -> tuple[str, str, str]:
    """Job, bundle and digest of a request for a manifest."""
    return (parse_query(request, BundleQuery).job, *version_of(request))


async def pieces_request(request: web.Request) -> PiecesRequest:
    """The body of a request for pieces."""
    return await read_model(request, PiecesRequest, MAX_PIECES_REQUEST_BYTES)
