"""The stages of a shutdown: the first signal drains, the second stops the jobs, the third leaves at once."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from edge_worker.jobs.runner import SHUT_DOWN
from edge_worker.log import EventLog

log = EventLog("edge_worker.agent.shutdown")


class ShutdownStage(IntEnum):
    """How far the shutdown has gone."""

    RUN = 0
    DRAIN = 1
    STOP = 2
    LEAVE = 3


_MEANING = {
    ShutdownStage.DRAIN: "accepts no new jobs, finishes those that run; signal again to stop the jobs",
    ShutdownStage.STOP: "stops the jobs within their grace; signal again to leave at once",
    ShutdownStage.LEAVE: "leaves at once; jobs continue to run, and the next start continues with them",
}


class Shutdown:
    """The stage of the shutdown, which only advances.

    Attributes:
        for_tasks: Why the worker shuts down, for the logs of tasks.
    """

    def __init__(self) -> None:
        self.stage = ShutdownStage.RUN
        self.for_tasks = SHUT_DOWN
        self._reached = {stage: asyncio.Event() for stage in ShutdownStage}

    def reach(self, stage: ShutdownStage, why: str) -> None:
        """Advances to this stage; does nothing in a later stage."""
        for next_stage in ShutdownStage:
            if self.stage < next_stage <= stage:
                self.stage = next_stage
                self._reached[next_stage].set()
                means = _MEANING[next_stage]
                log.info("shutdown_stage_reached", stage=next_stage.name.lower(), why=why, means=means)

    def order(self, stage: ShutdownStage, why: str) -> None:
        """An operator wants this stage; `why` is what tasks are told."""
        self.for_tasks = why
        self.reach(stage, why)

    async def at(self, stage: ShutdownStage) -> None:
        """Waits until this stage is reached."""
        await self._reached[stage].wait()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Each SIGTERM or SIGINT advances by one stage."""
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
