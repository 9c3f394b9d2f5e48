"""The pieces and manifests of published bundles in the stream `EDGE_BUNDLES`, one message each, named by their digests.

What has a digest never changes, so a direct get, which a follower that is behind may answer, can't answer wrongly: at
most it misses what was stored a moment ago. For that, the leader is asked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import STREAM_NOT_FOUND, BrokerUnavailable, JetStreamError, SubjectOccupied
from edge_broker.jetstream.direct_get import read_last
from edge_broker.jetstream.stored import last_message
from edge_broker.jetstream.stream_info import purge, subjects_with_messages
from edge_broker.subjects import BUNDLES, manifest_subject, piece_subject, pieces_filter

BATCH_PIECES = 256
"""So many pieces are asked for in one read; the server's limit is 1,024."""
BATCH_BYTES = 4 << 20
"""After so many bytes a read ends: below what the server keeps for a client that reads slowly."""
READ_S = 20.0
ONE_BY_ONE = 32
"""Up to so many pieces are looked up one by one; more by lists of those that are stored.

A list is one of 256: the list of all pieces of a full store takes the server longer than a request may take.
"""
AT_ONCE = 8

_Result = TypeVar("_Result")


class BundleStore:
    """Reads and writes pieces and manifests, as frames. Nothing is checked: the reader of a frame does that.

    Args:
        broker: With the rights of `keeper` or `publisher` to write, also of `relay` or `reader` to read.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def manifest(self, digest: str) -> bytes | None:
        """The frame of a manifest, from the leader; None if there is none.

        Raises:
            BrokerUnavailable: No answer, or no such stream yet.
        """
        return await self._from_leader(manifest_subject(digest))

    async def frames(self, digests: Sequence[str]) -> dict[str, bytes]:
        """The frames of these pieces by digest; those that are not stored are left out.

        The caller bounds the memory by the number of pieces: each has up to 528 KiB.

        Raises:
            BrokerUnavailable: No answer, or no such stream yet.
        """
        found: dict[str, bytes] = {}
        for start in range(0, len(digests), BATCH_PIECES):
            found |= await self._batch(digests[start : start + BATCH_PIECES])
        return found

    async def missing(self, digests: Sequence[str]) -> list[str]:
        """Those of these pieces that are not stored, from the leader and without reading them.

        Raises:
            BrokerUnavailable: No answer, or no such stream yet.
        """
        wanted = list(dict.fromkeys(digests))
        if len(wanted) > ONE_BY_ONE:
            patterns = sorted({pieces_filter(digest[:2]) for digest in wanted})
        else:
            patterns = [piece_subject(digest) for digest in wanted]
        stored = set(await self._digests(patterns))
        return [digest for digest in wanted if digest not in stored]

    async def pieces(self) -> list[str]:
        """The digests of all stored pieces."""
        return await self._digests([pieces_filter(f"{beginning:02x}") for beginning in range(256)])

    async def manifests(self) -> list[str]:
        """The digests of all stored manifests."""
        return await self._digests([manifest_subject("*")])

    async def put_piece(self, digest: str, frame: bytes) -> bool:
        """Store a piece; returns whether it is new. May be repeated.

        Raises:
            StreamFull: There is no room; nothing was stored.
            PayloadTooLarge: The server's `max_payload` is too small.
            BrokerUnavailable: The outcome is unknown; repeat it.
        """
        return await self._put(piece_subject(digest), frame)

    async def put_manifest(self, digest: str, frame: bytes) -> bool:
        """Store a manifest whose pieces are all stored; returns whether it is new. May be repeated.

        Raises:
            StreamFull: There is no room; nothing was stored.
            PayloadTooLarge: The server's `max_payload` is too small.
            BrokerUnavailable: The outcome is unknown; repeat it.
        """
        return await self._put(manifest_subject(digest), frame)

    async def remove_manifest(self, digest: str) -> None:
        """Remove a manifest that no entry names any more; nothing changes if there is none."""
        await purge(self._broker, BUNDLES, manifest_subject(digest))

    async def remove_piece(self, digest: str) -> None:
        """Remove a piece that no manifest names any more; nothing changes if there is none."""
        await purge(self._broker, BUNDLES, piece_subject(digest))

    async def _batch(self, digests: Sequence[str]) -> dict[str, bytes]:
        """By direct get as long as it brings something, then the rest from the leader."""
        found: dict[str, bytes] = {}
        while wanted := [digest for digest in dict.fromkeys(digests) if digest not in found]:
            subjects = [piece_subject(digest) for digest in wanted]
            try:
                async with asyncio.timeout(READ_S):
                    messages = await read_last(self._broker, BUNDLES, subjects, max_bytes=BATCH_BYTES)
            except TimeoutError:
                raise BrokerUnavailable(f"a read of stream {BUNDLES} did not end within {READ_S:g} s") from None
            if not messages:
                frames = await _each(lambda digest: self._from_leader(piece_subject(digest)), wanted)
                present = zip(wanted, frames, strict=True)
                return found | {digest: frame for digest, frame in present if frame is not None}
            found |= {subject.rpartition(".")[2]: message.data for subject, message in messages.items()}
        return found

    async def _from_leader(self, subject: str) -> bytes | None:
        try:
            message = await last_message(self._broker, BUNDLES, subject)
        except JetStreamError as error:
            raise _explained(error) from error
        return None if message is None else message.data

    async def _digests(self, patterns: Sequence[str]) -> list[str]:
        """The digests at the end of the stored subjects that match."""
        listed = await _each(self._listed, patterns)
        return [subject.rpartition(".")[2] for subjects in listed for subject in subjects]

    async def _listed(self, pattern: str) -> list[str]:
        try:
            return await subjects_with_messages(self._broker, BUNDLES, pattern)
        except JetStreamError as error:
            raise _explained(error) from error

    async def _put(self, subject: str, frame: bytes) -> bool:
        # Without a message id: after a removal, the server would drop a repeat within its window for duplicates.
        try:
            await self._broker.store(subject, frame)
        except SubjectOccupied:
            return False
        return True


async def _each(read: Callable[[str], Awaitable[_Result]], texts: Sequence[str]) -> list[_Result]:
    """The results of a call for each, some at once."""
    results: list[_Result] = []
    for start in range(0, len(texts), AT_ONCE):
        results += await asyncio.gather(*map(read, texts[start : start + AT_ONCE]))
    return results


def _explained(error: JetStreamError) -> Exception:
    if error.code == STREAM_NOT_FOUND:
        return BrokerUnavailable(f"there is no stream {BUNDLES}: run 'edge-relay streams apply'")
    return error
