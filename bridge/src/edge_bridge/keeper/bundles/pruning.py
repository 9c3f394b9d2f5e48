"""Removes old versions of bundles, from time to time."""

import asyncio
from datetime import UTC, datetime, timedelta

import structlog

from edge_bridge.airflow.bundle_versions import versions_in_use
from edge_bridge.keeper.bundles.metrics import BundleMetrics
from edge_bridge.keeper.bundles.settings import BundleSettings
from edge_bridge.keeper.dispatch import DatabaseUnavailable, Dispatches, airflow_session
from edge_broker.bundles.lock import LockBusy
from edge_broker.bundles.pruner import Pruner, PruneRefused

log = structlog.get_logger(__name__)

SWEEP_INTERVAL = timedelta(days=1)
"""All manifests are read for it. What a killed publisher has left may stay for so long."""


class BundlePruning:
    """Searches for versions that are not needed, and removes them after their minimum age.

    Args:
        settings: When to search, and for how long versions are kept.
    """

    def __init__(
        self,
        pruner: Pruner,
        dispatches: Dispatches,
        metrics: BundleMetrics,
        settings: BundleSettings,
    ) -> None:
        self._pruner = pruner
        self._dispatches = dispatches
        self._metrics = metrics
        self._settings = settings
        self._swept_at: datetime | None = None

    async def run(self) -> None:
        """Search, forever.

        Raises:
            BrokerUnavailable: NATS did not answer.
            LockLost: It did not answer for too long.
        """
        await asyncio.sleep(self._settings.first_after_s)
        while True:
            await self.prune(datetime.now(UTC))
            await asyncio.sleep(self._settings.interval.total_seconds())

    async def prune(self, now: datetime) -> None:
        """Search once. Without Airflow's database nothing is removed. Raises as `run` does."""
        try:
            # Before the entries: a version that is published after this is new, and not removed.
            in_use = await self._dispatches.query(read_versions)
            pruned = await self._pruner.prune(in_use, self._settings.min_age, now)
            if pruned.versions or self._swept_at is None or now - self._swept_at >= SWEEP_INTERVAL:
                await self._pruner.sweep(pruned)
                self._swept_at = now
        except (DatabaseUnavailable, PruneRefused, LockBusy) as error:
            self._metrics.not_pruned()
            log.warning("bundles_not_pruned", error=str(error))
            return
        self._metrics.pruned(versions=len(pruned.versions), manifests=len(pruned.manifests), pieces=pruned.pieces)
        if pruned.versions or pruned.manifests or pruned.pieces:
            log.info(
                "bundles_pruned",
                versions=len(pruned.versions),
                manifests=len(pruned.manifests),
                pieces=pruned.pieces,
                unneeded=len(pruned.waiting),
            )


def read_versions() -> set[str]:
    """Every version that Airflow may ask for; for `Dispatches.query`.

    Raises:
        DatabaseUnavailable: It can't be read.
    """
    with airflow_session() as session:
        return versions_in_use(session)
