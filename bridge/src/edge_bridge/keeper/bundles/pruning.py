"""Removes old versions of bundles, from time to time."""

import asyncio
from datetime import UTC, datetime, timedelta

import structlog

from edge_bridge.airflow.bundle_versions import versions_in_use
from edge_bridge.keeper.bundles.metrics import BundleMetrics
from edge_bridge.keeper.dispatch import DatabaseUnavailable, Dispatches, airflow_session
from edge_broker.bundles.lock import LockBusy
from edge_broker.bundles.pruner import Pruner, PruneRefused

log = structlog.get_logger(__name__)

INTERVAL = timedelta(hours=1)
SWEEP_INTERVAL = timedelta(days=1)
"""All manifests are read for it. What a killed publisher has left may stay for so long."""
FIRST_AFTER_S = 60.0
"""The keeper's start has more important work."""


class BundlePruning:
    """Searches for versions that are not needed, and removes them after their minimum age.

    Args:
        min_age: For which a version is kept at least when it is not needed any more.
        interval: Between two searches.
        first_after_s: Before the first one.
    """

    def __init__(
        self,
        pruner: Pruner,
        dispatches: Dispatches,
        min_age: timedelta,
        metrics: BundleMetrics,
        *,
        interval: timedelta = INTERVAL,
        first_after_s: float = FIRST_AFTER_S,
    ) -> None:
        self._pruner = pruner
        self._dispatches = dispatches
        self._min_age = min_age
        self._metrics = metrics
        self._interval = interval
        self._first_after_s = first_after_s
        self._swept_at: datetime | None = None

    async def run(self) -> None:
        """Search, forever.

        Raises:
            BrokerUnavailable: NATS did not answer.
            LockLost: It did not answer for too long.
        """
        await asyncio.sleep(self._first_after_s)
        while True:
            await self.prune(datetime.now(UTC))
            await asyncio.sleep(self._interval.total_seconds())

    async def prune(self, now: datetime) -> None:
        """Search once. Without Airflow's database nothing is removed. Raises as `run` does."""
        try:
            # Before the entries: a version that is published after this is new, and not removed.
            in_use = await self._dispatches.query(_read_versions)
            pruned = await self._pruner.prune(in_use, self._min_age, now)
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


def _read_versions() -> set[str]:
    with airflow_session() as session:
        return versions_in_use(session)
