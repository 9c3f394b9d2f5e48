"""Gives each job the folder with the code that it names, fetched once for all jobs of a version."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any

from edge_schemas.wire.jobs import Job
from edge_worker.bundles.bytecode_maker import BytecodeMaker
from edge_worker.bundles.disk import Disk
from edge_worker.bundles.fetch import VersionFetch
from edge_worker.bundles.pruning import limits_of
from edge_worker.bundles.store import BundleStore
from edge_worker.bundles.unavailable import cannot_be_kept
from edge_worker.bundles.waiting import Say, Waiter, short
from edge_worker.log import EventLog
from edge_worker.relay.bundle_calls import BundleCalls
from edge_worker.relay.link import Link
from edge_worker.settings import Settings
from edge_worker.state.state import StateDir

PRUNE_EVERY_S = 3600.0
PRUNE_PAUSE_S = 10.0
"""Between two looks at what is to be removed, however many jobs end."""

log = EventLog("edge_worker.bundles.provider")


def bundle_store(state: StateDir, settings: Settings) -> BundleStore:
    """The versions in a state folder."""
    return BundleStore(state.bundles, limits_of(settings), state.bundles_in_use)


@dataclass(frozen=True, slots=True)
class FetchStatus:
    """A fetch under way, for the machine's owner.

    Attributes:
        jobs: How many wait for it.
        pieces: To be fetched; 0 until that is known.
    """

    bundle: str
    digest: str
    jobs: int
    pieces: int
    done: int
    received: int


@dataclass
class Bundles:
    """The published versions that this worker's jobs run.

    Attributes:
        group: Where the fetches run.
        python: The interpreter of the Airflow runtime, for `bytecode`.
        bytecode: Makes it.
    """

    store: BundleStore
    calls: BundleCalls
    link: Link
    group: asyncio.TaskGroup
    python: InitVar[Path]
    disk: Disk = field(default_factory=Disk)
    bytecode: BytecodeMaker = field(init=False)
    _fetches: dict[str, tuple[VersionFetch, "asyncio.Task[None]"]] = field(default_factory=dict)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self, python: Path) -> None:
        """Make the part that compiles."""
        self.bytecode = BytecodeMaker(self.store, self.disk, python)

    async def code_of(self, job: Job, say: Say) -> Path | None:
        """The folder with the code of a job; None if the job names no published version.

        Args:
            job: Has a folder on disk, which keeps its version from being removed.
            say: Writes a line into the task's log.

        Raises:
            CodeUnavailable: The version is not here, and can't be fetched.
        """
        if (bundle := job.bundle) is None:
            return None
        try:
            tree = await self.disk.do(lambda: self.store.tree(bundle.digest))
        except OSError as error:
            raise cannot_be_kept(error) from error
        how = "which is on this machine" if tree is not None else "which was fetched"
        if tree is None:
            tree = await self._fetched(Waiter(job.id, bundle, say))
        self.bytecode.soon(bundle.digest)
        say(f"Edge worker: runs version {short(bundle.digest)} of bundle {bundle.name!r}, {how}{_note(job)}")
        return tree

    def fetching(self) -> tuple[FetchStatus, ...]:
        """The fetches under way."""
        return tuple(
            FetchStatus(bundle.name, fetch.digest, len(fetch.waiters), *fetch.progress.counts)
            for fetch, _ in self._fetches.values()
            if (bundle := fetch.waiters.bundle) is not None
        )

    def job_ended(self) -> None:
        """A version may no longer be in use."""
        self._ended.set()

    @property
    def loops(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """What must run, by the names of the tasks."""
        loops: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "prune-bundles": self._prune,
            "compile-bundles": self.bytecode.run,
        }
        return loops

    async def _prune(self) -> None:
        """Remove what is no longer needed: at the start, after jobs, and every hour. Until cancelled."""
        await self._on_disk(self.store.prepare)
        while True:
            self._ended.clear()
            await self._on_disk(self.store.prune)
            await asyncio.sleep(PRUNE_PAUSE_S)
            try:
                async with asyncio.timeout(PRUNE_EVERY_S):
                    await self._ended.wait()
            except TimeoutError:
                continue

    def close(self) -> None:
        """Return once nothing is written any more; all jobs must be closed."""
        self.disk.close()

    async def _on_disk(self, work: Callable[[], None]) -> None:
        try:
            await self.disk.do(work)
        except OSError as error:
            log.warning("bundles_not_pruned", error=str(error))

    async def _fetched(self, waiter: Waiter) -> Path:
        fetch = self._joined(waiter)
        try:
            return await waiter.done
        finally:
            fetch.waiters.leave(waiter)
            if not fetch.waiters and (found := self._fetches.get(fetch.digest)) is not None and found[0] is fetch:
                del self._fetches[fetch.digest]
                found[1].cancel()

    def _joined(self, waiter: Waiter) -> VersionFetch:
        """The fetch that a job waits for from now on."""
        digest = waiter.bundle.digest
        if digest not in self._fetches:
            fetch = VersionFetch(digest, self.calls, self.store, self.disk, self.link)
            task = self.group.create_task(self._run(fetch), name=f"fetch-bundle-{digest}")
            self._fetches[digest] = fetch, task
        fetch = self._fetches[digest][0]
        fetch.waiters.join(waiter)
        return fetch

    async def _run(self, fetch: VersionFetch) -> None:
        try:
            await fetch.run()
        finally:
            # A job that comes now looks for the version on the disk.
            if (found := self._fetches.get(fetch.digest)) is not None and found[0] is fetch:
                del self._fetches[fetch.digest]


def _note(job: Job) -> str:
    work = job.airflow_work
    info = {} if work is None else work.workload.get("bundle_info", {})
    pinned = isinstance(info, dict) and info.get("version") is not None
    return "" if pinned else "; the run names no version, so it is the one that was current when the job was dispatched"
