"""Proves each second that polls can be stored, and publishes every two seconds that workers can reach this replica.

Without the proof the clock of this replica's fleet stands still, without the messages the keepers' clock of silence.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import structlog

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_broker.subjects import RELAY_BEATS
from edge_relay.lifecycle import Lifecycle
from edge_relay.stores.worker_store import WorkerStore
from edge_schemas.wire.worker_entry import CLOCK_STEP_S, RELAY_BEAT_S, RelayBeat

log = structlog.get_logger(__name__)

PROOF_EVERY_S = 1.0
_NEARLY_S = 0.1
"""A beat may be so much early: it follows a proof."""


class Service:
    """Since when workers have been served without interruption, by a clock that may be set. Pure.

    Times that were stored before the clock was set can't be compared with later ones, so the service begins again then.
    """

    def __init__(self) -> None:
        self._began: tuple[datetime, float] | None = None

    def update(self, now: datetime, monotonic_s: float) -> tuple[datetime, datetime]:
        """The beginning, and now."""
        if self._began is not None:
            since, since_s = self._began
            if abs((now - since).total_seconds() - (monotonic_s - since_s)) > CLOCK_STEP_S:
                log.warning("relay_clock_set")
                self._began = None
        self._began = self._began or (now, monotonic_s)
        return self._began[0], now

    def interrupt(self) -> None:
        """Workers are not served now."""
        self._began = None


class RelayBeats:
    """Publishes the relay beats of this replica. Run `run()` in a task group; it ends when the replica stops.

    Args:
        broker: The connection.
        workers: Where polls are stored.
        lifecycle: Of this replica.
        relay: Its name.
        on_proof: Called with the moment, in monotonic seconds, at which a poll could have been stored.
    """

    def __init__(
        self,
        broker: Broker,
        workers: WorkerStore,
        lifecycle: Lifecycle,
        relay: str,
        on_proof: Callable[[float], None],
    ) -> None:
        self._broker = broker
        self._workers = workers
        self._lifecycle = lifecycle
        self._relay = relay
        self._on_proof = on_proof
        self._beat_due = self._connected_at = 0.0
        self._service = Service()
        self._kick = asyncio.Event()
        broker.on_connection(self._restart)
        lifecycle.on_stop(self._kick.set)

    async def run(self) -> None:
        """Publish while workers are served and their polls can be stored."""
        await self._lifecycle.serving.wait()
        while not self._lifecycle.stopping.is_set():
            self._kick.clear()
            if self._broker.connected and await self._prove() and time.monotonic() >= self._beat_due:
                await self._publish()
            with suppress(TimeoutError):
                async with asyncio.timeout(PROOF_EVERY_S):
                    await self._kick.wait()

    async def _prove(self) -> bool:
        """Whether a poll can be stored."""
        at = self._workers.written_at
        try:
            # A connection is not enough: without a leader, or with a full disk, no poll arrives, and workers must not
            # count as silent then. A poll that was stored just now proves as much as another write.
            if at < max(time.monotonic() - PROOF_EVERY_S, self._connected_at):
                at = time.monotonic()
                async with asyncio.timeout(RELAY_BEAT_S):
                    await self._workers.probe()
        except (BrokerUnavailable, JetStreamError, TimeoutError) as error:
            log.debug("relay_beat_skipped", error=repr(error))
            self._service.interrupt()
            return False
        self._on_proof(at)
        return True

    async def _publish(self) -> None:
        self._beat_due = time.monotonic() + RELAY_BEAT_S - _NEARLY_S
        since, at = self._service.update(datetime.now(UTC), time.monotonic())
        beat = RelayBeat(relay=self._relay, serving_since=since, at=at)
        await self._broker.publish(RELAY_BEATS, beat.model_dump_json().encode())

    def _restart(self) -> None:
        self._service.interrupt()
        self._beat_due, self._connected_at = 0.0, time.monotonic()
        self._kick.set()
