"""How the agent ends: the first signal drains, the second stops the jobs, the third leaves at once."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from edge_worker.log import EventLog

log = EventLog("edge_worker.agent.shutdown")


class Rung(IntEnum):
    """How far down."""

    RUN = 0
    DRAIN = 1
    STOP = 2
    LEAVE = 3


_MEANING = {
    Rung.DRAIN: "takes nothing new, finishes what runs; signal again to stop the jobs",
    Rung.STOP: "stops the jobs within their grace; signal again to leave at once",
    Rung.LEAVE: "leaves at once; jobs go on and are taken up at the next start",
}


class Ladder:
    """One way, downwards only."""

    def __init__(self) -> None:
        self.rung = Rung.RUN
        self._reached = {rung: asyncio.Event() for rung in Rung}

    def reach(self, rung: Rung, why: str) -> None:
        """Goes down to this rung; nothing happens if it is already lower."""
        for step in Rung:
            if self.rung < step <= rung:
                self.rung = step
                self._reached[step].set()
                log.info("ladder_rung_reached", rung=step.name.lower(), why=why, means=_MEANING[step])

    async def at(self, rung: Rung) -> None:
        """Waits until this rung is reached."""
        await self._reached[rung].wait()

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
        self.reach(Rung(min(self.rung + 1, Rung.LEAVE)), name)
