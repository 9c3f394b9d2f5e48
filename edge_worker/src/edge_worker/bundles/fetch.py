"""Fetches one version from the relay, for all jobs that wait for it."""

import functools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from edge_schemas.bundles.manifest import Manifest
from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.job_calls import MAX_PIECES
from edge_worker.bundles.building import LocalPiece, PiecesMissing, local_pieces
from edge_worker.bundles.disk import Disk
from edge_worker.bundles.partial import Partial, PiecesReader
from edge_worker.bundles.store import BundleStore
from edge_worker.bundles.unavailable import CodeUnavailable, Damaged, cannot_be_kept
from edge_worker.bundles.waiting import Waiter, Waiters, short
from edge_worker.log import EventLog
from edge_worker.relay.bundle_calls import BundleCalls
from edge_worker.relay.call_result import CallError, Refused
from edge_worker.relay.link import Link
from edge_worker.relay.retry import Backoff, Fate, fate_of

MAX_DAMAGED = 5
"""After so many answers that are not what was asked for, the version is given up."""
DAMAGED_PAUSE_S = 0.25
"""Before the first repeat, half of the pause; each further one is twice as long."""
MAX_BUILDS = 5
"""How often the files are written: again, if a piece on the disk turns out not to be what it was."""
REQUEST_BYTES = 4 * 1024 * 1024
"""Of the pieces of one request, before compression."""

T = TypeVar("T")

log = EventLog("edge_worker.bundles.fetch")


@dataclass
class Progress:
    """How far a fetch is.

    Attributes:
        pieces: How many pieces are to be fetched; 0 until that is known.
        done: How many of them have arrived.
        received: Bytes of answers with pieces.
    """

    pieces: int = 0
    done: int = 0
    received: int = 0
    began_at: float = field(default_factory=time.monotonic)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Pieces, those that have arrived, and bytes."""
        return self.pieces, self.done, self.received


class VersionFetch:
    """One version on its way to this machine. Each call to the relay is made for one of the jobs that wait.

    Attributes:
        digest: Of the version.
        waiters: The jobs that wait for it.
    """

    def __init__(self, digest: str, calls: BundleCalls, store: BundleStore, disk: Disk, link: Link) -> None:
        self.digest = digest
        self.waiters = Waiters()
        self.progress = Progress()
        self._calls = calls
        self._store = store
        self._disk = disk
        self._link = link
        self._damaged = 0

    async def run(self) -> None:
        """Fetch the version; returns when no job waits any more."""
        try:
            tree = await self._fetch()
        except (CodeUnavailable, OSError) as error:
            reason = cannot_be_kept(error) if isinstance(error, OSError) else error
            log.warning("bundle_not_fetched", digest=self.digest, reason=reason.reason)
            self.waiters.fail(reason)
        except Exception as error:
            # A fault of each job; the agent continues.
            log.exception("bundle_fault", digest=self.digest)
            self.waiters.fail(error)
        else:
            self.waiters.give(tree)

    async def _fetch(self) -> Path:
        partial = await self._disk.do(lambda: self._store.partial(self.digest))
        manifest = await self._disk.do(lambda: partial.manifest(self.digest))
        if manifest is None:
            manifest = await self._ask(lambda waiter: self._fetch_manifest(partial, waiter))
        local = await self._disk.do(lambda: local_pieces(self._store.folders(), manifest))
        bundle = "" if (named := self.waiters.bundle) is None else named.name
        for _ in range(MAX_BUILDS):
            await self._fetch_missing(partial, manifest, local)
            try:
                tree = await self._disk.do(functools.partial(self._store.build, partial, manifest, local, bundle))
            except PiecesMissing as error:
                # A file of another version was changed, or a power cut has damaged what had arrived.
                local = {piece: place for piece, place in local.items() if piece not in error.digests}
                continue
            self._log_end(manifest)
            return tree
        reason = "what was written to the disk is not what is read"
        raise CodeUnavailable(reason, releases=True, pauses=True)

    async def _fetch_manifest(self, partial: Partial, waiter: Waiter) -> Manifest:
        frame = await self._calls.manifest(waiter.job, waiter.bundle)
        return await self._disk.do(lambda: partial.keep_manifest(frame, self.digest))

    async def _fetch_missing(self, partial: Partial, manifest: Manifest, local: dict[str, LocalPiece]) -> None:
        here = await self._disk.do(partial.complete)
        missing = {piece: size for piece, size in manifest.pieces.items() if piece not in here and piece not in local}
        to_fetch = sum(missing.values())
        await self._disk.do(lambda: self._store.check_room(manifest, to_fetch))
        self.progress.pieces, self.progress.done = len(missing), 0
        if missing:
            what = f"version {short(self.digest)}, which has {_mib(manifest.size)} in {len(manifest.files)} files"
            rest = "; the rest is on this machine" if to_fetch < manifest.size else ""
            self.waiters.say(f"Edge worker: fetches {_mib(to_fetch)} of {what}{rest}")
        while missing:
            arrived = await self._ask(lambda waiter: self._fetch_some(partial, missing, waiter))
            for piece in arrived:
                del missing[piece]
            self.progress.done += len(arrived)

    async def _fetch_some(self, partial: Partial, missing: dict[str, int], waiter: Waiter) -> list[str]:
        """Ask once for some pieces; returns those that have arrived, at least one."""
        begun = await self._disk.do(partial.begun)
        if begun is not None and begun.digest not in missing:
            await self._disk.do(functools.partial(partial.drop, begun.digest))
            begun = None
        wanted = _some(missing, first=None if begun is None else begun.digest)
        reader = PiecesReader(partial, wanted, begun)
        offset = 0 if begun is None else begun.offset
        try:
            await self._calls.pieces(
                waiter.job, waiter.bundle, tuple(wanted), offset=offset, sink=lambda chunk: self._take(reader, chunk)
            )
        except (CallError, Damaged) as error:
            if begun is not None and isinstance(error, Refused) and error.code == ErrorCode.INVALID_REQUEST:
                # The piece was published again, and is shorter now than what is here.
                await self._disk.do(functools.partial(partial.drop, begun.digest))
                raise Damaged(str(error)) from error
            if not reader.pieces:
                raise
        finally:
            self._disk.soon(reader.close)
        if not reader.pieces:
            raise Damaged("the relay has ended its answer before the first piece")
        return list(wanted)[: reader.pieces]

    async def _take(self, reader: PiecesReader, chunk: bytes) -> None:
        try:
            await self._disk.do(lambda: reader.feed(chunk))
        except OSError as error:  # of this disk, and not of the network
            raise cannot_be_kept(error) from error
        self.progress.received += len(chunk)

    async def _ask(self, call: Callable[[Waiter], Awaitable[T]]) -> T:
        """Make a call for one of the jobs until it succeeds. A final refusal ends the wait of this job only."""
        backoff, received = Backoff(), self.progress.received
        while True:
            waiter = await self.waiters.first()
            try:
                answer = await call(waiter)
            except CallError as error:
                if fate_of(error) is Fate.FINAL:
                    log.warning("bundle_refused", job=waiter.job, digest=self.digest, reason=str(error))
                    self.waiters.refuse(waiter, CodeUnavailable(f"the relay refuses it: {error}"))
                    continue
                if self.progress.received > received:
                    backoff.reset()
                    received = self.progress.received
                else:
                    self.waiters.pause(str(error))
                delay_s = backoff.next_pause(error)
            except Damaged as error:
                delay_s = self._count_damaged(error)
            else:
                self._damaged = 0
                self.waiters.resume()
                return answer
            await self._link.pause(delay_s)

    def _count_damaged(self, error: Damaged) -> float:
        self._damaged += 1
        log.warning("bundle_damaged", digest=self.digest, reason=str(error), times=self._damaged)
        if self._damaged >= MAX_DAMAGED:
            text = f"{self._damaged} answers were not what was asked for; the last one: {error}"
            raise CodeUnavailable(text) from error
        self.waiters.say(f"Edge worker: what has arrived is refused and fetched again: {error}")
        return DAMAGED_PAUSE_S * 2.0**self._damaged

    def _log_end(self, manifest: Manifest) -> None:
        seconds = round(time.monotonic() - self.progress.began_at, 1)
        received = self.progress.received
        log.info("bundle_fetched", digest=self.digest, size=manifest.size, received_bytes=received, seconds=seconds)
        self.waiters.say(f"Edge worker: version {short(self.digest)} is complete: {_mib(received)} in {seconds:g} s")


def _some(missing: dict[str, int], *, first: str | None) -> dict[str, int]:
    """The pieces of the next request, at least one."""
    wanted: dict[str, int] = {} if first is None else {first: missing[first]}
    total = sum(wanted.values())
    for piece, size in missing.items():
        if wanted and (len(wanted) >= MAX_PIECES or total + size > REQUEST_BYTES):
            break
        if piece not in wanted:
            wanted[piece] = size
            total += size
    return wanted


def _mib(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MiB" if size >= 100 * 1024 else f"{size / 1024:.1f} KiB"
