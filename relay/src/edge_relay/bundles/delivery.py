"""Answers workers that fetch a bundle: its manifest, and its pieces as they are stored, in groups of limited size."""

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile

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
"""Of the pieces that an answer reads at once, and holds until they are sent."""
BLOCK_BYTES = 64 * 1024
"""What is sent at once."""
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
        self._first: Mapping[str, bytes] | None = first
        self._offset = offset
        self._metrics = metrics

    async def pieces(self, progress: Progress) -> AsyncGenerator[bytes, None]:
        """See `Moving.pieces`. Behind a piece that is no longer stored, the body ends.

        Raises:
            DeliveryBroken: Not all can be read.
            BodyStalled: A read takes too long.
        """
        for group in self._groups:
            read, self._first = self._first, None
            if read is None:
                read = await progress.step(self._more(group))
            stored = list(takewhile(read.__contains__, group))
            for block in blocks([read[piece] for piece in stored], self._offset):
                yield block
                self._metrics.bytes.inc(len(block))
            self._offset = 0
            if len(stored) < len(group):
                log.warning("bundle_piece_missing", piece=group[len(stored)])
                raise DeliveryBroken("a piece is no longer stored")

    async def _more(self, group: Sequence[str]) -> Mapping[str, bytes]:
        try:
            return await self._frames.get(group)
        except BrokerUnavailable as error:
            log.warning("bundle_answer_broken", error=error.detail)
            raise DeliveryBroken(str(error)) from error


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


def blocks(frames: Iterable[bytes], offset: int) -> Iterator[bytes]:
    """The part of a body with these frames, in blocks: few writes for many small frames, few copies of large ones.

    Args:
        frames: Each is sent behind its length.
        offset: So many bytes of the first one are left out.
    """
    block = bytearray()
    for frame in frames:
        block += length_of(frame)
        for start in range(offset, len(frame), BLOCK_BYTES):
            block += frame[start : start + BLOCK_BYTES]
            if len(block) >= BLOCK_BYTES:
                yield bytes(block)
                block.clear()
        offset = 0
    if block:
        yield bytes(block)
