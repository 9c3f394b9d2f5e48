"""How the agent ends: the first signal drains, the second stops the jobs, the third leaves at once."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from edge_worker.log import EventLog

log = EventLog("edge_worker.agent.shutdown")


class ShutdownStage(IntEnum):
    """How far down."""

    RUN = 0
    DRAIN = 1
    STOP = 2
    LEAVE = 3


_MEANING = {
    ShutdownStage.DRAIN: "takes nothing new, finishes what runs; signal again to stop the jobs",
    ShutdownStage.STOP: "stops the jobs within their grace; signal again to leave at once",
    ShutdownStage.LEAVE: "leaves at once; jobs go on and are taken up at the next start",
}


class Shutdown:
    """One way, downwards only."""

    def __init__(self) -> None:
        self.stage = ShutdownStage.RUN
        self._reached = {stage: asyncio.Event() for stage in ShutdownStage}

    def reach(self, stage: ShutdownStage, why: str) -> None:
        """Goes down to this rung; nothing happens if it is already lower."""
        for step in ShutdownStage:
            if self.stage < step <= stage:
                self.stage = step
                self._reached[step].set()
                log.info("shutdown_stage_reached", stage=step.name.lower(), why=why, means=_MEANING[step])

    async def at(self, stage: ShutdownStage) -> None:
        """Waits until this rung is reached."""
        await self._reached[stage].wait()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT go one rung down each."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self._next, signal.Signals(number).name)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    def _next(self, name: str) -> None:
        self.reach(ShutdownStage(min(self.stage + 1, ShutdownStage.LEAVE)), name)
