"""Whether the relay can be reached, as the poll loop sees it; said once when it changes."""

import asyncio
from collections.abc import Callable
from time import monotonic

from edge_worker.log import EventLog

log = EventLog("edge_worker.link")


class Link:
    """The state of the way to the relay, and a pause that ends early when the way is open again."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lost_at: float | None = None
        self._answered_before = False
        self._back = asyncio.Event()

    @property
    def is_up(self) -> bool:
        """False from the first report of a loss until the next answer."""
        return self._lost_at is None

    @property
    def is_proven(self) -> bool:
        """The relay has answered, and nothing was lost since."""
        return self._answered_before and self._lost_at is None

    def answered(self) -> None:
        """The relay has answered, be it with a refusal."""
        if self._lost_at is not None:
            log.info("relay_reachable", after_s=round(self._clock() - self._lost_at, 1))
        elif not self._answered_before:
            log.info("relay_reachable")
        self._lost_at = None
        self._answered_before = True
        self._back.set()
        self._back = asyncio.Event()

    def lost(self, why: str) -> None:
        """No answer came; `why` is for people and holds no credential."""
        if self._lost_at is None:
            self._lost_at = self._clock()
            log.warning("relay_unreachable", reason=why)

    async def pause(self, delay_s: float) -> None:
        """Waits before a repeat; returns at once when the relay answers again after a loss."""
        back = self._back
        if self.is_up:
            await asyncio.sleep(delay_s)
            return
        try:
            async with asyncio.timeout(delay_s):
                await back.wait()
        except TimeoutError:
            return
