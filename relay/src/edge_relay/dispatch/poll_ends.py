"""When parked polls end: together with others, since each poll that ends alone wakes this process for itself."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field

STEP_S = 0.25
"""A poll ends so much earlier than it may, at most: at a moment that it shares with others."""
SHORTEST_S = 5.0
"""A poll that may wait for less ends on time."""

OnEnd = Callable[[], None]


@dataclass(eq=False, slots=True)
class _Moment:
    """Polls that end together."""

    timer: asyncio.TimerHandle
    polls: set[OnEnd] = field(default_factory=set)


class PollEnds:
    """The moments at which polls end, by the event loop's clock: no more moments than polls are parked."""

    def __init__(self) -> None:
        self._moments: dict[float, _Moment] = {}

    def __len__(self) -> int:
        return len(self._moments)

    def add(self, poll: OnEnd, timeout_s: float) -> float:
        """Call `poll` when its time is over, unless it is removed before; returns when that is."""
        loop = asyncio.get_running_loop()
        at = loop.time() + timeout_s
        if timeout_s >= SHORTEST_S:
            at = math.floor(at / STEP_S) * STEP_S
        moment = self._moments.get(at)
        if moment is None:
            moment = self._moments[at] = _Moment(loop.call_at(at, self._end, at))
        moment.polls.add(poll)
        return at

    def remove(self, poll: OnEnd, at: float) -> None:
        """The poll has its answer; may be called after its moment."""
        moment = self._moments.get(at)
        if moment is None:
            return
        moment.polls.discard(poll)
        if not moment.polls:
            moment.timer.cancel()
            del self._moments[at]

    def _end(self, at: float) -> None:
        for poll in self._moments.pop(at).polls:
            poll()
