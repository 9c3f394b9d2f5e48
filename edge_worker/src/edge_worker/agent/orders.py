"""Follows what operators order about this worker's availability. It survives restarts: it is stored with the identity.

An order that arrives while the agent runs makes it exit, if it is a drain or a stop. An agent that starts under such an
order stays, connected and without jobs: otherwise a service manager that starts it again would do so without end.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from edge_schemas.wire.workers import Availability, WorkerSettings
from edge_worker.agent.draining import Runner
from edge_worker.agent.shutdown import Shutdown, ShutdownStage
from edge_worker.jobs.registry import JobTable
from edge_worker.log import EventLog

_TEXT = {
    Availability.PAUSED: "an operator has paused this worker",
    Availability.DRAINING: "an operator drains this worker",
    Availability.STOPPED: "an operator stops this worker",
}

log = EventLog("edge_worker.agent.orders")


@dataclass
class Orders:
    """The order that counts, and what follows from it.

    Attributes:
        worker: The worker's name.
        slots: The owner's setting, for which an operator may set another number.
        drain_timeout_s: How long a drain may take; None sets no limit.
    """

    shutdown: Shutdown
    table: JobTable
    runner: Runner
    worker: str
    slots: int
    drain_timeout_s: float | None
    _availability: Availability = field(default=Availability.ACTIVE, init=False)
    _is_start: bool = field(default=True, init=False)
    _drains: bool = field(default=False, init=False)
    _why: str = field(default="", init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def follow(self, settings: WorkerSettings) -> None:
        """Act on the settings of the centre. Call it first with the stored ones, once the jobs are recovered."""
        self.table.set_slots(self.slots if settings.slots is None else settings.slots)
        before, self._availability = self._availability, settings.availability
        is_new = settings.availability is not before
        if is_new:
            is_exit = settings.availability in {Availability.DRAINING, Availability.STOPPED}
            self._drains = is_exit and not self._is_start
        text = _TEXT.get(settings.availability)
        self._why = "" if text is None else f"{text}: {settings.availability_reason or 'no reason was given'}"
        self.table.follow_order(self._why or None, drains=self._drains)
        if is_new:
            self._begin()
        self._changed.set()

    def answered(self) -> None:
        """A poll was answered: an order that arrives from here on is newer than this start."""
        self._is_start = False

    async def run(self) -> None:
        """Exit when a drain is complete, unless it is taken back before."""
        while True:
            self._changed.clear()
            if self._drains:
                await self._drain()
            await self._changed.wait()

    def _begin(self) -> None:
        if self._availability is Availability.ACTIVE:
            log.info("worker_available")
            return
        resume = f"edge-relay workers resume {self.worker} --reason WHY"
        log.warning(
            "worker_not_available",
            availability=self._availability.value,
            reason=self._why,
            exits=self._drains,
            resume=resume,
        )
        if self._availability is Availability.STOPPED and not self._drains:
            self.runner.stop_all(self._why)
        elif self._availability is Availability.STOPPED:
            self.shutdown.order(ShutdownStage.STOP, self._why)
        elif self._drains:
            self.runner.drain(self._why)
            self.runner.log_to_tasks(f"Edge worker: {self._why}; it waits for this task to end")

    async def _drain(self) -> None:
        """Wait for the jobs, then exit; return early when the order changes."""
        idle = asyncio.create_task(self.runner.until_idle(), name="drain-by-order")
        changed = asyncio.create_task(self._changed.wait(), name="drain-by-order-changed")
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.drain_timeout_s):
                    await asyncio.wait({idle, changed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            idle.cancel()
            changed.cancel()
        if self._drains and not changed.done():
            self.shutdown.order(ShutdownStage.DRAIN if idle.done() else ShutdownStage.STOP, self._why)
