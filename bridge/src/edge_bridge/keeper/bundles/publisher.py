"""Publishes bundles whose configuration is Airflow's own: again and again, what is new.

A bundle without versions is published as soon as its files have stayed the same between two checks. Of one with
versions, such as git, the version that the dag-processor has seen last is published, and those of unfinished
runs.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from time import monotonic

import structlog

from edge_bridge.airflow.bundle_versions import BundleRow, read_bundles
from edge_bridge.bundles.options import check_requirements, existing_requirements
from edge_bridge.bundles.tree import PieceSource
from edge_bridge.keeper.bundles.metrics import BundleMetrics
from edge_bridge.keeper.bundles.settings import ALL, BundleSettings
from edge_bridge.keeper.bundles.sources import BundleSources, Tree, error_text
from edge_bridge.keeper.dispatch import Dispatches, airflow_session
from edge_broker.bundles.entries import PublishedVersion
from edge_broker.bundles.lock import LockLost
from edge_broker.bundles.mirror import BundleMirror
from edge_broker.bundles.publishing import BundlePublisher, Wanted
from edge_broker.connection.errors import BrokerUnavailable

log = structlog.get_logger(__name__)

PERIOD_S = 3.0
SHARE_OF_TIME = 20
"""A check of large folders costs processor time, which the gate needs too: checks may have a twentieth of the time."""
LONGEST_PERIOD_S = 30.0
"""Half of the time that tasks wait for a version by default; most of a long check was the publication itself."""
RETRY_S = (5.0, 60.0)
"""The first pause after a failure of a bundle, and the longest."""


class KeeperPublisher:
    """Checks all bundles every few seconds. A bundle that fails delays no other.

    Args:
        settings: Which bundles to publish.
        sources: Opens them.
        dispatches: Limits the queries of the keeper.
        mirror: What is published.
        publisher: Publishes.
        metrics: Count publications.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        settings: BundleSettings,
        sources: BundleSources,
        dispatches: Dispatches,
        mirror: BundleMirror,
        publisher: BundlePublisher,
        *,
        metrics: BundleMetrics,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._settings = settings
        self._sources = sources
        self._dispatches = dispatches
        self._mirror = mirror
        self._publisher = publisher
        self._metrics = metrics
        self._clock = clock
        self._seen: dict[str, str] = {}
        self._failed: dict[str, tuple[float, float]] = {}
        self._unknown: frozenset[str] = frozenset()
        self._has_failed = False

    async def run(self) -> None:
        """Check, forever."""
        while True:
            began = self._clock()
            if self._mirror.is_complete:
                await self.check()
            took_s = self._clock() - began
            await asyncio.sleep(min(max(PERIOD_S, took_s * SHARE_OF_TIME), LONGEST_PERIOD_S))

    async def check(self) -> None:
        """Publish what is new. Failures are logged and repeated later.

        Raises:
            BrokerUnavailable: NATS did not answer.
            LockLost: It did not answer for too long.
        """
        try:
            versioned = await self._sources.configured()
            rows = await self._dispatches.query(read_rows)
        except Exception as error:  # noqa: BLE001  # logged; the configuration or a class may be wrong in any way
            if not self._has_failed:
                self._has_failed = True
                self._metrics.not_published()
                log.warning("bundles_not_checked", error=error_text(error))
            return
        self._has_failed = False
        self._warn_of_unknown(versioned)
        for name, has_versions in versioned.items():
            row = rows.get(name)
            if self._settings.publishes(name) and row is not None and self._is_due(name):
                await self._try(row, has_versions=has_versions)

    async def _try(self, row: BundleRow, *, has_versions: bool) -> None:
        try:
            await (self._publish_versions(row) if has_versions else self._publish_folder(row))
        except (BrokerUnavailable, LockLost):
            raise
        except Exception as error:  # noqa: BLE001  # logged; of its class, which may be anyone's, its files, the store
            pause_s, _ = self._failed.get(row.name, (RETRY_S[0] / 2, 0.0))
            pause_s = min(pause_s * 2, RETRY_S[1])
            self._failed[row.name] = pause_s, self._clock() + pause_s
            self._metrics.not_published()
            log.warning("bundle_not_published", bundle=row.name, error=error_text(error), retry_s=pause_s)
        else:
            self._failed.pop(row.name, None)

    async def _publish_versions(self, row: BundleRow) -> None:
        """All that are not published; one that can't be, such as a commit that is gone, does not delay the others."""
        failure: Exception | None = None
        for version in _versions(row):
            try:
                await self._publish_version(row, version)
            except (BrokerUnavailable, LockLost):
                raise
            except Exception as error:  # noqa: BLE001  # raised below; as in `_try`
                failure = failure or error
        if failure is not None:
            raise failure

    async def _publish_version(self, row: BundleRow, version: str) -> None:
        found, current = self._mirror.find(row.name, version), self._mirror.current(row.name)
        is_current = version == row.version
        if found is None or (is_current and not self._is_same(row.name, current, found.digest)):
            tree = await self._sources.version(row.name, version)
            await self._publish(row.name, tree, version, current=is_current)

    async def _publish_folder(self, row: BundleRow) -> None:
        tree = await self._sources.now(row.name, row.refreshed_at)
        digest, current = tree.manifest.digest, self._mirror.current(row.name)
        if self._is_same(row.name, current, digest):
            return
        # A copy into the folder that is under way would be published half.
        if self._seen.get(row.name) == digest:
            await self._publish(row.name, tree, None, current=True)
        self._seen[row.name] = digest

    async def _publish(self, name: str, tree: Tree, version: str | None, *, current: bool) -> None:
        requirements = self._settings.requirements.get(name, {})
        if current:
            check_requirements(requirements, tree.manifest)
        else:
            requirements = existing_requirements(requirements, tree.manifest)
        wanted = Wanted(name, tree.manifest, version, requirements, current=current)
        done = await self._publisher.publish(wanted, PieceSource(tree.root, tree.manifest).read)
        self._metrics.published()
        log.info(
            "bundle_published",
            bundle=name,
            version=version,
            digest=done.digest,
            new_pieces=done.new_pieces,
            new_bytes=done.new_bytes,
        )

    def _is_same(self, name: str, current: PublishedVersion | None, digest: str) -> bool:
        """Whether this is the current version, with the requirements of the settings."""
        wanted = self._settings.requirements.get(name, {})
        return current is not None and (current.digest, current.requirements) == (digest, wanted)

    def _is_due(self, name: str) -> bool:
        return name not in self._failed or self._clock() >= self._failed[name][1]

    def _warn_of_unknown(self, versioned: Mapping[str, bool]) -> None:
        unknown = self._settings.publish - {ALL} - set(versioned)
        if unknown != self._unknown:
            self._unknown = unknown
            for name in sorted(unknown):
                log.warning("bundle_unknown", bundle=name, setting="[edge_relay] publish_bundles")


def _versions(row: BundleRow) -> Iterator[str]:
    """The current one first: new runs need it."""
    if row.version is not None:
        yield row.version
    yield from sorted(row.needed - {row.version})


def read_rows() -> dict[str, BundleRow]:
    """The active bundles; for `Dispatches.query`.

    Raises:
        DatabaseUnavailable: The database can't be read.
    """
    with airflow_session() as session:
        return read_bundles(session)
