"""Whether the relay can be reached, as the poll loop sees it; said once when it changes."""

import asyncio
from collections.abc import Callable
from time import monotonic

from edge_worker.log import EventLog

log = EventLog("edge_worker.relay.link")


class Link:
    """The state of the way to the relay, and a pause that ends early when the way is open again."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lost_at: float | None = None
        self._answered_before = False
        self.cuts = 0
        """Times it was lost."""
        self._proven = False
        self._heard_at = clock()
        self._back = asyncio.Event()
        self._on_suspicion: list[Callable[[], None]] = []
        self._on_turn: list[Callable[[], None]] = []

    @property
    def is_up(self) -> bool:
        """False from the first report of a loss until the next answer."""
        return self._lost_at is None

    @property
    def is_proven(self) -> bool:
        """The relay has answered a poll, and nothing has cast doubt on the link since."""
        return self._proven

    @property
    def unheard_s(self) -> float:
        """Seconds since the relay has last answered a call of any kind."""
        return self._clock() - self._heard_at

    def on_suspicion(self, listener: Callable[[], None]) -> None:
        """Calls `listener` when a proven link is no longer to be trusted."""
        self._on_suspicion.append(listener)

    def on_state_change(self, listener: Callable[[], None]) -> None:
        """Calls `listener` when the link is lost and when it is back, before those who pause go on."""
        self._on_turn.append(listener)

    def heard(self) -> None:
        """The relay has answered a call of some kind."""
        self._heard_at = self._clock()

    def answered(self) -> None:
        """The relay has answered a poll."""
        lost_at, self._lost_at = self._lost_at, None
        if lost_at is not None:
            log.info("relay_reachable", after_s=round(self._clock() - lost_at, 1))
            self._turn()
        elif not self._answered_before:
            log.info("relay_reachable")
        self._answered_before = self._proven = True
        self._back.set()
        self._back = asyncio.Event()

    def suspect(self, why: str) -> None:
        """A call got no answer: a poll that is parked may be parked nowhere."""
        if self._proven:
            self._proven = False
            log.debug("link_suspected", reason=why)
            for listener in self._on_suspicion:
                listener()

    def lost(self, why: str) -> None:
        """No poll is answered; `why` is for people and holds no credential."""
        self._proven = False
        if self._lost_at is None:
            self._lost_at = self._clock()
            self.cuts += 1
            log.warning("relay_unreachable", reason=why)
            self._turn()

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

    def _turn(self) -> None:
        for listener in self._on_turn:
            listener()
