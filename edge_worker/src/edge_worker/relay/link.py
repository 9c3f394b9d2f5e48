"""Whether the relay can be reached, as the poll loop sees it. A change is logged once."""

import asyncio
from collections.abc import Callable
from time import monotonic

from edge_worker.log import EventLog

log = EventLog("edge_worker.relay.link")


class Link:
    """The state of the network path to the relay, and a pause that ends early when the relay answers again."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lost_at: float | None = None
        self._answered_before = False
        self.cuts = 0
        """How often the link was lost."""
        self._proven = False
        self._last_contact = self._changed_at = clock()
        self._back = asyncio.Event()
        self._on_suspicion: list[Callable[[], None]] = []
        self._on_state_change: list[Callable[[], None]] = []

    @property
    def is_up(self) -> bool:
        """False from the first report of a loss until the next answer."""
        return self._lost_at is None

    @property
    def is_proven(self) -> bool:
        """The relay has answered a poll, and no call has failed since."""
        return self._proven

    @property
    def answered_before(self) -> bool:
        """The relay has answered a poll of this agent."""
        return self._answered_before

    @property
    def unchanged_s(self) -> float:
        """Seconds since the link was lost or came back; since the agent began, before the first answer."""
        return self._clock() - self._changed_at

    @property
    def silence_s(self) -> float:
        """Seconds since the relay last answered a call of any kind."""
        return self._clock() - self._last_contact

    def on_suspicion(self, listener: Callable[[], None]) -> None:
        """Calls `listener` when a proven link becomes doubtful."""
        self._on_suspicion.append(listener)

    def on_state_change(self, listener: Callable[[], None]) -> None:
        """Calls `listener` when the link is lost and when it is back, before any `pause` ends."""
        self._on_state_change.append(listener)

    def record_contact(self) -> None:
        """The relay has answered a call of some kind."""
        self._last_contact = self._clock()

    def answered(self) -> None:
        """The relay has answered a poll."""
        lost_at, self._lost_at = self._lost_at, None
        if lost_at is not None:
            log.info("relay_reachable", after_s=round(self._clock() - lost_at, 1))
            self._notify_state_change()
        elif not self._answered_before:
            log.info("relay_reachable")
        if lost_at is not None or not self._answered_before:
            self._changed_at = self._clock()
        self._answered_before = self._proven = True
        self._back.set()
        self._back = asyncio.Event()

    def suspect(self, why: str) -> None:
        """A call got no answer, so a poll that is held open may have lost its connection."""
        if self._proven:
            self._proven = False
            log.debug("link_suspected", reason=why)
            for listener in self._on_suspicion:
                listener()

    def lost(self, why: str) -> None:
        """Polls are not answered; `why` is for the log and contains no credential."""
        self._proven = False
        if self._lost_at is None:
            self._lost_at = self._changed_at = self._clock()
            self.cuts += 1
            log.warning("relay_unreachable", reason=why)
            self._notify_state_change()

    async def pause(self, delay_s: float) -> None:
        """Waits before a repetition; returns at once when the relay answers again after a loss."""
        back = self._back
        if self.is_up:
            await asyncio.sleep(delay_s)
            return
        try:
            async with asyncio.timeout(delay_s):
                await back.wait()
        except TimeoutError:
            return

    def _notify_state_change(self) -> None:
        for listener in self._on_state_change:
            listener()
