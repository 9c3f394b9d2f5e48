"""Answers workers that fetch a bundle: its manifest, and its pieces as they are stored, in groups of limited size."""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog

from edge_broker.bundles.store import BundleStore
from edge_broker.connection.errors import BrokerUnavailable
from edge_relay.bundles.access import BundleAccess, check_offset, check_pieces, missing_piece
from edge_relay.bundles.cached_reads import CachedReads
from edge_relay.bundles.manifests import Manifests
from edge_relay.bundles.open_answers import OpenAnswers
from edge_relay.identity.principals import Principal
from edge_relay.lifecycle import Lifecycle
from edge_relay.metrics.bundles import BundleMetrics
from edge_schemas.bundles.pieces import MAX_FRAME_BYTES, length_of
from edge_schemas.wire.job_calls import PiecesRequest
from edge_service.body_progress import Progress

log = structlog.get_logger(__name__)

GROUP_BYTES = MAX_FRAME_BYTES
"""Of the pieces that an answer reads at once. It holds their frames twice: as they were read, and joined."""
_FRAME_OVERHEAD_BYTES = 64
"""How much longer than a small piece its frame is at most."""


class DeliveryBroken(ConnectionResetError):
    """The rest of an answer can't be read. Its connection is closed, and the worker asks for what it does not have."""


class BundleDelivery:
    """The bundles that workers fetch from this replica.

    Args:
        access: Who may fetch what.
        store: Has the bundles.
        answers: Limits how many are on their way.
        lifecycle: A replica that stops begins no answer.
        metrics: Counts what is sent, and where it came from.
        cache_bytes: How many bytes of frames are kept.
    """

    def __init__(
        self,
        access: BundleAccess,
        store: BundleStore,
        answers: OpenAnswers,
        lifecycle: Lifecycle,
        metrics: BundleMetrics,
        *,
        cache_bytes: int,
    ) -> None:
        self._access = access
        self._manifests = Manifests(store)
        self._frames = CachedReads(store.frames, size=len, most_bytes=cache_bytes, count=metrics.pieces_from)
        self._answers = answers
        self._lifecycle = lifecycle
        self._metrics = metrics
        metrics.follow(lambda: self._frames.kept_bytes, lambda: len(answers))

    @contextmanager
    def answering(self, worker: str) -> Iterator[None]:
        """The answer to a call of this worker, from its checks to its last byte.

        Raises:
            EdgeError: `draining` or `rate_limited`.
        """
        self._lifecycle.check()
        with self._answers.counted(worker):
            yield

    async def manifest(self, principal: Principal, job: str, bundle: str, digest: str) -> bytes:
        """The frame of the manifest of the version that a job runs.

        Raises:
            EdgeError: See `BundleAccess.check` and `Manifests.get`.
            BrokerUnavailable: Something can't be read now.
        """
        await self._access.check(principal, job, bundle, digest)
        manifest = await self._manifests.get(digest)
        self._metrics.bytes.inc(len(manifest.frame))
        return manifest.frame

    async def pieces(self, principal: Principal, bundle: str, digest: str, wanted: PiecesRequest) -> "PiecesBody":
        """The body with these pieces; the first of them are read now.

        Raises:
            EdgeError: See `BundleAccess.check`, `Manifests.get`, `check_pieces` and `check_offset`; `not_found` if the
                first piece is no longer stored.
            BrokerUnavailable: Something can't be read now.
        """
        await self._access.check(principal, wanted.job, bundle, digest)
        sizes = (await self._manifests.get(digest)).pieces
        check_pieces(wanted.pieces, sizes)
        groups = in_groups(wanted.pieces, sizes)
        first = await self._frames.get(groups[0])
        if wanted.pieces[0] not in first:
            raise missing_piece(wanted.pieces[0])
        check_offset(wanted.offset, first[wanted.pieces[0]])
        return PiecesBody(self._frames, groups, first, wanted.offset, self._metrics)


class PiecesBody:
    """The body of one answer; a group of pieces is read when those before it are sent.

    Args:
        frames: Has all frames.
        groups: The pieces in the order of the answer.
        first: The frames of the first group.
        offset: So many bytes of the first frame are left out.
        metrics: Counts what is sent.
    """

    def __init__(
        self,
        frames: CachedReads[bytes],
        groups: Sequence[Sequence[str]],
        first: Mapping[str, bytes],
        offset: int,
        metrics: BundleMetrics,
    ) -> None:
        self._frames = frames
        self._groups = groups
        self._read: Mapping[str, bytes] = first
        self._offset = offset
        self._metrics = metrics

    async def pieces(self, progress: Progress) -> AsyncGenerator[bytes, None]:
        """See `Moving.pieces`. Behind a piece that is no longer stored, the body ends.

        Raises:
            DeliveryBroken: Not all can be read.
            BodyStalled: A read takes too long.
        """
        for number, group in enumerate(self._groups):
            if number:
                self._read = await progress.step(self._more(group))
            joined, missing = self._joined(group)
            self._read = {}
            yield joined
            self._metrics.bytes.inc(len(joined))
            if missing is not None:
                log.warning("bundle_piece_missing", piece=missing)
                raise DeliveryBroken(f"piece {missing} is no longer stored")

    async def _more(self, group: Sequence[str]) -> Mapping[str, bytes]:
        try:
            return await self._frames.get(group)
        except BrokerUnavailable as error:
            log.warning("bundle_answer_broken", error=error.detail)
            raise DeliveryBroken(str(error)) from error

    def _joined(self, group: Sequence[str]) -> tuple[bytes, str | None]:
        """The part of the body with this group, up to a piece that is missing, and that piece."""
        parts: list[bytes | memoryview] = []
        for piece in group:
            frame = self._read.get(piece)
            if frame is None:
                return b"".join(parts), piece
            parts += (length_of(frame), memoryview(frame)[self._offset :])
            self._offset = 0
        return b"".join(parts), None


def in_groups(pieces: Sequence[str], sizes: Mapping[str, int]) -> list[list[str]]:
    """The pieces in groups whose frames have at most `GROUP_BYTES`, judged by the sizes of the pieces."""
    groups: list[list[str]] = [[]]
    room = GROUP_BYTES
    for piece in pieces:
        size = sizes[piece] + _FRAME_OVERHEAD_BYTES
        if groups[-1] and size > room:
            groups.append([])
            room = GROUP_BYTES
        groups[-1].append(piece)
        room -= size
    return groups
