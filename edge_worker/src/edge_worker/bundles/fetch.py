"""Fetches one version from the relay, for all jobs that wait for it."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from edge_schemas.bundles.manifest import Manifest
from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.job_calls import MAX_PIECES
from edge_schemas.wire.jobs import BundleRef
from edge_worker.bundles.disk import Disk
from edge_worker.bundles.partial import Partial, PiecesReader
from edge_worker.bundles.store import BundleStore, LocalPiece, PiecesMissing
from edge_worker.bundles.unavailable import CodeUnavailable, Damaged, cannot_be_kept
from edge_worker.log import EventLog
from edge_worker.relay.call_result import CallError, Refused
from edge_worker.relay.link import Link
from edge_worker.relay.retry import Backoff, Fate, fate_of
from edge_worker.relay.transport import Sink

MAX_DAMAGED = 5
"""After so many answers that are not what was asked for, the version is given up."""
MAX_BUILDS = 5
"""How often the files are written: again, if a piece on the disk turns out not to be what it was."""
REQUEST_BYTES = 4 * 1024 * 1024
"""Of the pieces of one request, before compression."""

T = TypeVar("T")
Say = Callable[[str], None]

log = EventLog("edge_worker.bundles.fetch")


class BundleCalls(Protocol):
    """The calls to the relay; `RelayClient`."""

    async def bundle_manifest(self, job: str, bundle: BundleRef) -> bytes:
        """The frame of a manifest."""

    async def bundle_pieces(
        self, job: str, bundle: BundleRef, pieces: tuple[str, ...], *, offset: int, sink: Sink
    ) -> None:
        """The frames of pieces."""


@dataclass(eq=False)
class Waiter:
    """A job that waits for its code.

    Attributes:
        say: Writes a line into the task's log.
        done: Gets the folder with the code.
    """

    job: str
    bundle: BundleRef
    say: Say
    done: "asyncio.Future[Path]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


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
    line: str = ""
    began_at: float = field(default_factory=time.monotonic)


class VersionFetch:
    """One version on its way to this machine. Each call to the relay is made for one of the jobs that wait.

    Attributes:
        digest: Of the version.
        waiters: The jobs that wait for it, the first first.
    """

    def __init__(self, digest: str, calls: BundleCalls, store: BundleStore, disk: Disk, link: Link) -> None:
        self.digest = digest
        self.waiters: list[Waiter] = []
        self.progress = Progress()
        self._calls = calls
        self._store = store
        self._disk = disk
        self._link = link
        self._has_joined = asyncio.Event()
        self._damaged = 0
        self._is_waiting = False

    def join(self, waiter: Waiter) -> None:
        """One more job waits."""
        self.waiters.append(waiter)
        self._has_joined.set()
        waiter.say(
            self.progress.line or f"Edge worker: fetches version {_short(self.digest)} of {_name(waiter.bundle)}"
        )

    async def run(self) -> None:
        """Fetch the version; returns when no job waits any more."""
        try:
            tree = await self._fetch()
        except CodeUnavailable as error:
            self._fail(error)
        except OSError as error:
            self._fail(cannot_be_kept(error))
        except Exception as error:
            log.exception("bundle_fault", digest=self.digest)
            self._fail_with(error)
        else:
            for waiter in self._waiting():
                waiter.done.set_result(tree)

    async def _fetch(self) -> Path:
        partial = await self._disk.do(lambda: self._store.partial(self.digest))
        manifest = await self._disk.do(lambda: partial.manifest(self.digest))
        if manifest is None:
            manifest = await self._ask(lambda waiter: self._fetch_manifest(partial, waiter))
        local = await self._disk.do(lambda: self._store.local_pieces(manifest))
        bundle = self.waiters[0].bundle.name if self.waiters else ""
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
        frame = await self._calls.bundle_manifest(waiter.job, waiter.bundle)
        return await self._disk.do(lambda: partial.keep_manifest(frame, self.digest))

    async def _fetch_missing(self, partial: Partial, manifest: Manifest, local: dict[str, LocalPiece]) -> None:
        here = await self._disk.do(partial.complete)
        missing = {piece: size for piece, size in manifest.pieces.items() if piece not in here and piece not in local}
        to_fetch = sum(missing.values())
        await self._disk.do(lambda: self._store.check_room(manifest, to_fetch))
        self.progress.pieces, self.progress.done = len(missing), 0
        if missing:
            self._say(
                f"Edge worker: fetches {len(missing)} pieces with {_mib(to_fetch)} of version {_short(self.digest)}, "
                f"which has {len(manifest.files)} files with {_mib(manifest.size)}; the rest is on this machine"
            )
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
            await self._calls.bundle_pieces(
                waiter.job, waiter.bundle, tuple(wanted), offset=offset, sink=lambda chunk: self._take(reader, chunk)
            )
        except CallError as error:
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
        """Make a call for one of the jobs until it succeeds. A final refusal ends the wait of this job only.

        Raises:
            CodeUnavailable: Too many answers were damaged.
        """
        backoff, received = Backoff(), self.progress.received
        while True:
            waiter = await self._first()
            try:
                answer = await call(waiter)
            except CallError as error:
                if fate_of(error) is Fate.FINAL:
                    self._refuse(waiter, error)
                    continue
                if self.progress.received > received:
                    backoff.reset()
                    received = self.progress.received
                else:
                    self._say_that_it_waits(error)
                delay_s = backoff.next_pause(error)
            except Damaged as error:
                delay_s = self._count_damaged(error)
            else:
                self._say_that_it_continues()
                return answer
            await self._link.pause(delay_s)

    async def _first(self) -> Waiter:
        """The job for which the next call is made. Without one, nothing happens until the fetch is cancelled."""
        while not (waiting := self._waiting()):
            self._has_joined.clear()
            await self._has_joined.wait()
        return waiting[0]

    def _waiting(self) -> list[Waiter]:
        return [waiter for waiter in self.waiters if not waiter.done.done()]

    def _refuse(self, waiter: Waiter, error: CallError) -> None:
        log.warning("bundle_refused", job=waiter.job, digest=self.digest, reason=str(error))
        if waiter in self.waiters:  # it may have been stopped meanwhile
            self.waiters.remove(waiter)
            waiter.done.set_exception(CodeUnavailable(f"the relay refuses it: {error}"))

    def _count_damaged(self, error: Damaged) -> float:
        self._damaged += 1
        log.warning("bundle_damaged", digest=self.digest, reason=str(error), times=self._damaged)
        if self._damaged >= MAX_DAMAGED:
            raise CodeUnavailable(
                f"{self._damaged} answers were not what was asked for; the last one: {error}"
            ) from error
        self._say(f"Edge worker: what has arrived is refused and fetched again: {error}")
        return 2.0 ** (self._damaged - 2)

    def _say_that_it_waits(self, error: CallError) -> None:
        if not self._is_waiting:
            self._is_waiting = True
            self._say(f"Edge worker: the fetch waits for the relay: {error}")

    def _say_that_it_continues(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._say("Edge worker: the relay answers again, and the fetch continues")

    def _say(self, line: str) -> None:
        self.progress.line = line
        for waiter in self.waiters:
            waiter.say(line)

    def _log_end(self, manifest: Manifest) -> None:
        seconds = round(time.monotonic() - self.progress.began_at, 1)
        received = self.progress.received
        log.info("bundle_fetched", digest=self.digest, size=manifest.size, received_bytes=received, seconds=seconds)
        self._say(f"Edge worker: version {_short(self.digest)} is complete: {_mib(received)} received in {seconds:g} s")

    def _fail(self, error: CodeUnavailable) -> None:
        log.warning("bundle_not_fetched", digest=self.digest, reason=error.reason)
        self._fail_with(error)

    def _fail_with(self, error: Exception) -> None:
        """An unexpected error is a fault of each job; the agent continues."""
        for waiter in self._waiting():
            waiter.done.set_exception(error)


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


def _short(digest: str) -> str:
    return digest[:12]


def _name(bundle: BundleRef) -> str:
    return f"bundle {bundle.name!r}"


def _mib(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MiB" if size >= 100 * 1024 else f"{size / 1024:.1f} KiB"
