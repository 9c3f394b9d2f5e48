"""The manifests of the versions that workers fetch, parsed once: they decide which pieces belong to a version."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from edge_broker.bundles.store import BundleStore
from edge_relay.bundles.cached_reads import CachedReads
from edge_schemas.bundles.manifest import ManifestRefused, open_manifest
from edge_schemas.wire.errors import EdgeError, ErrorCode

log = structlog.get_logger(__name__)

KEPT_BYTES = 32 << 20
_PIECE_BYTES = 256
"""What Python needs for a digest and a size in a dict, about."""


@dataclass(frozen=True, slots=True)
class KnownManifest:
    """A manifest that was checked.

    Attributes:
        frame: As it is stored, and sent.
        pieces: The size of each piece.
    """

    frame: bytes
    pieces: Mapping[str, int]


class Manifests:
    """Reads manifests, and keeps some.

    Args:
        store: Has them.
    """

    def __init__(self, store: BundleStore) -> None:
        self._store = store
        self._reads = CachedReads(self._read, size=_size, most_bytes=KEPT_BYTES)
        self._parsing = asyncio.Lock()

    async def get(self, digest: str) -> KnownManifest:
        """The manifest with this digest.

        Raises:
            EdgeError: `not_found`.
            BrokerUnavailable: It can't be read now.
        """
        found = await self._reads.get([digest])
        if digest not in found:
            raise EdgeError(ErrorCode.NOT_FOUND, "this version of the bundle is not stored, or no longer")
        return found[digest]

    async def _read(self, digests: Sequence[str]) -> Mapping[str, KnownManifest]:
        return {digest: manifest for digest in digests if (manifest := await self._read_one(digest)) is not None}

    async def _read_one(self, digest: str) -> KnownManifest | None:
        frame = await self._store.manifest(digest)
        if frame is None:
            return None
        try:
            # In a thread, one at a time: that of the largest bundle takes a second, and 100 MB.
            async with self._parsing:
                manifest = await asyncio.to_thread(open_manifest, frame, digest)
        except ManifestRefused as error:
            log.warning("bundle_manifest_refused", digest=digest, error=str(error))
            return None
        return KnownManifest(frame, manifest.pieces)


def _size(manifest: KnownManifest) -> int:
    return len(manifest.frame) + _PIECE_BYTES * len(manifest.pieces)
