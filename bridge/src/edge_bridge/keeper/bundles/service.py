"""The part of a keeper that looks after bundles, at the one keeper that has the lock. It never ends the keeper."""

import asyncio
import math
from time import monotonic

import structlog

from edge_bridge.keeper.bundles.metrics import BundleMetrics
from edge_bridge.keeper.bundles.pruning import BundlePruning
from edge_bridge.keeper.bundles.publisher import KeeperPublisher
from edge_bridge.keeper.bundles.settings import BundleSettings
from edge_bridge.keeper.bundles.sources import BundleSources, remove_stale_copies
from edge_bridge.keeper.dispatch import Dispatches
from edge_broker.bundles.lock import KEEPER, BundleLock, HeldLock, LockLost
from edge_broker.bundles.mirror import BundleMirror
from edge_broker.bundles.pruner import Pruner
from edge_broker.bundles.publishing import BundlePublisher
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_service.threads import run_in_daemon_thread

log = structlog.get_logger(__name__)

LEAD_RETRY_S = 5.0
"""How often a keeper that does not lead asks for the lock."""
RESTART_S = 10.0
WARN_EVERY_S = 60.0
CHECK_S = 1.0
STALE_COPIES_S = 3600.0


class BundleCare:
    """Publishes and removes while this keeper leads.

    Args:
        settings: What to do.
        broker: Of its own: large messages on their way must not delay the records of jobs.
        dispatches: Limits the queries of the keeper.
        metrics: Count what is done.
        by: This process, for people.
    """

    def __init__(
        self,
        settings: BundleSettings,
        broker: Broker,
        dispatches: Dispatches,
        *,
        metrics: BundleMetrics,
        by: str,
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._dispatches = dispatches
        self._metrics = metrics
        self._by = by
        self._sources = BundleSources(settings.limits)
        self._warned_at = -WARN_EVERY_S

    async def run(self) -> None:
        """Wait for the lead and work, forever."""
        while True:
            await self._broker.wait_connected()
            try:
                await self._lead()
            except* (BrokerUnavailable, JetStreamError, LockLost) as errors:
                self._warn(errors)
            except* Exception as errors:
                log.exception("bundle_care_failed", restart_s=RESTART_S, exc_info=errors)
            await asyncio.sleep(RESTART_S)

    async def _lead(self) -> None:
        lock = BundleLock(self._broker, KEEPER, self._by, life_s=self._settings.lock_life_s, retry_s=LEAD_RETRY_S)
        async with lock.hold(exclusive=True, wait_s=math.inf) as held:
            log.info("bundles_led")
            self._metrics.leads.set(1)
            try:
                await self._work(held)
            finally:
                self._metrics.leads.set(0)
                self._metrics.versions.set(0)

    async def _work(self, held: HeldLock) -> None:
        broker, mirror, settings = self._broker, BundleMirror(), self._settings
        mirror.listen(lambda: self._metrics.versions.set(len(mirror.versions())))
        pruning = BundlePruning(Pruner(broker, self._by), self._dispatches, self._metrics, settings)
        async with asyncio.TaskGroup() as group:
            group.create_task(mirror.run(broker), name="bundle-mirror")
            group.create_task(pruning.run(), name="bundle-pruning")
            group.create_task(_watch_lock(held), name="bundle-lead")
            if settings.publish:
                publisher = KeeperPublisher(
                    settings,
                    self._sources,
                    self._dispatches,
                    mirror,
                    BundlePublisher(broker, self._by),
                    metrics=self._metrics,
                )
                group.create_task(publisher.run(), name="bundle-publisher")
                group.create_task(_remove_stale_copies(), name="bundle-copies")

    def _warn(self, errors: ExceptionGroup[Exception]) -> None:
        """At most once a minute: without NATS, or without the bucket, each attempt fails."""
        if monotonic() - self._warned_at >= WARN_EVERY_S:
            self._warned_at = monotonic()
            log.warning("bundle_care_waits", error=str(errors.exceptions[0]) or type(errors.exceptions[0]).__name__)


async def _watch_lock(held: HeldLock) -> None:
    while True:
        await asyncio.sleep(CHECK_S)
        held.check()


async def _remove_stale_copies() -> None:
    while True:
        await asyncio.sleep(STALE_COPIES_S)
        try:
            await run_in_daemon_thread(remove_stale_copies)
        except Exception as error:
            log.warning("bundle_copies_not_removed", error=repr(error), exc_info=True)
