"""The bundles of Airflow's configuration, opened and hashed. Their calls may block for long: each runs in a thread."""

import asyncio
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edge_bridge.bundles.hashing import TreeHasher
from edge_bridge.bundles.listing import Limits
from edge_bridge.bundles.refusals import BundleRefused
from edge_schemas.bundles.manifest import Manifest
from edge_service.threads import run_in_daemon_thread

if TYPE_CHECKING:
    from airflow.dag_processing.bundles.base import BaseDagBundle
    from airflow.dag_processing.bundles.manager import DagBundlesManager

T = TypeVar("T")

MAX_ERROR_CHARS = 2000
_CREDENTIALS = re.compile(r"://[^/\s]*@")
OPEN_S = 300.0
"""For a clone of a large repository over a slow line."""


class SourceBusy(Exception):
    """The bundle can't be opened in time; the call that hangs is not repeated until it has ended."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The files of a bundle.

    Attributes:
        root: Their folder.
    """

    root: Path
    manifest: Manifest


@dataclass(slots=True)
class _Unversioned:
    """A bundle without versions, as this process has opened it.

    Attributes:
        refreshed_at: When the dag-processor had refreshed it before this process did.
    """

    bundle: "BaseDagBundle"
    hasher: TreeHasher
    refreshed_at: datetime | None


@dataclass
class BundleSources:
    """All bundles. Only one call for a bundle runs at a time.

    Attributes:
        limits: How large a bundle may be.
    """

    limits: Limits
    _configured: dict[str, bool] | None = None
    _unversioned: dict[str, _Unversioned] = field(default_factory=dict)
    _calls: dict[str, "asyncio.Task[object]"] = field(default_factory=dict)

    async def configured(self) -> dict[str, bool]:
        """The names of all bundles that do not publish themselves, and whether each has versions.

        Raises:
            SourceBusy: It takes too long.
        """
        if self._configured is None:
            found, is_complete = await self._call("", _configured)
            if not is_complete:  # Airflow has logged the error of a bundle, which may go away
                return found
            self._configured = found
        return self._configured

    async def version(self, name: str, version: str) -> Tree:
        """A version of a bundle that has versions.

        Raises:
            SourceBusy: It takes too long.
            BundleRefused: Its files can't be published.
            Exception: Whatever the bundle's class raises.
        """
        return await self._call(name, partial(_open_version, name, version, TreeHasher(self.limits)))

    async def now(self, name: str, refreshed_at: datetime | None) -> Tree:
        """The files of a bundle without versions, as they are now. Raises as `version` does, and `TreeChanged`.

        Args:
            name: Of the bundle.
            refreshed_at: When the dag-processor refreshed it; it is refreshed here once more after that.
        """
        return await self._call(name, partial(self._open, name, refreshed_at))

    def _open(self, name: str, refreshed_at: datetime | None) -> Tree:
        source = self._unversioned.pop(name, None)
        if source is None:
            bundle = _manager().get_bundle(name)
            bundle.initialize()
            source = _Unversioned(bundle, TreeHasher(self.limits), None)
        if source.refreshed_at != refreshed_at:
            source.bundle.refresh()
            source.refreshed_at = refreshed_at
        tree = _tree(source.bundle.path, source.hasher)
        self._unversioned[name] = source  # after an error, it is opened again
        return tree

    async def _call(self, name: str, work: Callable[[], T]) -> T:
        running = self._calls.get(name)
        if running is not None and not running.done():
            raise SourceBusy(_busy(name))
        call = asyncio.create_task(run_in_daemon_thread(work), name=f"bundle-{name}")
        self._calls[name] = call
        try:
            async with asyncio.timeout(OPEN_S):
                return await asyncio.shield(call)
        except TimeoutError:
            if call.done():
                raise  # the bundle's own
            raise SourceBusy(_busy(name)) from None


def error_text(error: Exception) -> str:
    """An error of a bundle's class may name the URL of a repository with a password in it."""
    return _CREDENTIALS.sub("://…@", f"{type(error).__name__}: {error}")[:MAX_ERROR_CHARS]


def remove_stale_copies() -> None:
    """Remove copies of versions that this machine has not used for long, as Airflow's settings say."""
    from airflow.dag_processing.bundles.base import BundleUsageTrackingManager

    remove: Callable[[], None] = BundleUsageTrackingManager().remove_stale_bundle_versions
    remove()


def _configured() -> tuple[dict[str, bool], bool]:
    """As `BundleSources.configured`, and whether each bundle of the configuration could be made."""
    from edge_bridge.bundles import PublishedBundle

    manager = _manager()
    bundles = list(manager.get_all_dag_bundles())
    found = {bundle.name: bundle.supports_versioning for bundle in bundles if not isinstance(bundle, PublishedBundle)}
    return found, len(bundles) == len(list(manager.get_all_bundle_names()))


def _manager() -> "DagBundlesManager":
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    make: Callable[[], DagBundlesManager] = DagBundlesManager  # it has no annotations
    return make()


def _open_version(name: str, version: str, hasher: TreeHasher) -> Tree:
    """With Airflow's lock, which notes that the copy of the version is used, so that a later cleanup may remove it."""
    from airflow.dag_processing.bundles.base import BundleVersionLock

    lock: Callable[[str, str], AbstractContextManager[object]] = BundleVersionLock  # it has no annotations
    with lock(name, version):
        bundle = _manager().get_bundle(name, version)
        bundle.initialize()
        return _tree(bundle.path, hasher)


def _tree(root: Path, hasher: TreeHasher) -> Tree:
    manifest = hasher.manifest(root)
    if not manifest.files:
        raise BundleRefused(f"{root} holds no file to publish: is the right folder mounted?")
    return Tree(root, manifest)


def _busy(name: str) -> str:
    what = f"bundle {name!r}" if name else "the configuration of bundles"
    return f"{what} could not be opened within {OPEN_S:g} s: check the network to its source, or restart the keeper"
