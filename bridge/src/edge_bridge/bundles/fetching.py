"""Writes a published version into a folder, from NATS."""

import asyncio
from pathlib import Path

from edge_bridge.bundles.tree import make_folder, write_tree
from edge_broker.bundles.store import BundleStore
from edge_broker.connection.broker import Broker
from edge_schemas.bundles.manifest import Manifest, ManifestRefused, open_manifest
from edge_schemas.bundles.pieces import PieceRefused, open_piece

WINDOW = 32
"""So many pieces are read at once: at most 16 MiB."""


class VersionMissing(Exception):
    """The version can't be had; the text explains the reason and the remedy."""


async def fetch_version(broker: Broker, digest: str, folder: Path) -> None:
    """Fetch a version into a folder, which appears complete or not at all; nothing if it is there.

    Raises:
        VersionMissing: It is not published any more, or what is stored was damaged.
        BrokerUnavailable: No answer.
        OSError: The disk is full.
    """
    if await asyncio.to_thread(folder.is_dir):
        return
    store = BundleStore(broker)
    frame = await store.manifest(digest)
    if frame is None:
        raise VersionMissing(
            f"version {digest} is not published any more: clear the task with 'run with latest version', or publish "
            "the version again"
        )
    try:
        manifest = open_manifest(frame, digest)
    except ManifestRefused as error:
        raise VersionMissing(f"the manifest of version {digest} is refused: {error}") from error
    pieces = _Pieces(store, manifest, asyncio.get_running_loop())
    await asyncio.to_thread(make_folder, folder, lambda partial: write_tree(partial, manifest, pieces.read))


class _Pieces:
    """The pieces of a version in the order in which its files have them, fetched ahead."""

    def __init__(self, store: BundleStore, manifest: Manifest, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._sizes = manifest.pieces
        self._order = list(manifest.pieces)
        self._position = {digest: number for number, digest in enumerate(self._order)}
        self._loop = loop
        self._window: dict[str, bytes] = {}

    def read(self, digest: str) -> bytes:
        """A piece, in another thread than the loop.

        Raises:
            VersionMissing: It is gone or damaged.
            BrokerUnavailable: No answer.
        """
        if digest not in self._window:
            start = self._position[digest]
            wanted = self._order[start : start + WINDOW]
            self._window = asyncio.run_coroutine_threadsafe(self._store.frames(wanted), self._loop).result()
        try:
            return open_piece(self._window[digest], digest, self._sizes[digest])
        except KeyError:
            raise VersionMissing(
                f"piece {digest} is missing in the store of bundles: publish the bundle again"
            ) from None
        except PieceRefused as error:
            raise VersionMissing(f"{error}. Publish the bundle again after the piece was removed") from error
