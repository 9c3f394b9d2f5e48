"""Which pulls are open at a consumer, and which to send: decisions only, no I/O, no clock.

A lane has at most one open pull, and an inbox of its own: a message does not name the pull that it answers, but it
arrives on the lane of that pull. With two lanes, the next pull is sent while the other lane's pull still delivers. More
lanes would only cost: the server goes round all open pulls, and each of them is renewed when its time is over.
"""

import math
import random
from dataclasses import dataclass

from edge_broker.jetstream.consumer import PullStatus, StatusKind

LANES = 2
MAX_BATCH = 32
EXPIRES_S = 10.0
GRACE_S = 2.0
"""A pull without a status this long after its end is lost: server or leader are gone."""
NO_CONSUMER_DELAY_S = 5.0
ERROR_DELAY_S = 2.0
FIRST_DELAY_S = 0.1


@dataclass(frozen=True, slots=True)
class Pull:
    """A request to the consumer.

    Attributes:
        is_probe: It ends at once when no message waits; otherwise it stays open for `EXPIRES_S`.
    """

    lane: int
    number: int
    batch: int
    is_probe: bool


@dataclass(slots=True)
class _Lane:
    """A lane's open pull, if `left` is above zero."""

    number: int = 0
    left: int = 0
    deadline: float = 0.0
    is_probe: bool = False


class Lanes:
    """What was requested from a consumer and has not arrived yet.

    Attributes:
        pending: How many messages wait at the consumer, as far as an answer showed; None if that is not known.
        asked_at: When the last pull was sent.
        empty_at: When the last answer showed that no message waits.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self.pending: int | None = None
        self.asked_at = self.empty_at = -math.inf
        self._lanes = [_Lane() for _ in range(LANES)]
        self._last_number = 0
        self._not_before = 0.0
        self._failures = 0
        self._random = rng or random.Random()  # noqa: S311  # jitter, nothing secret

    @property
    def out(self) -> int:
        """How many messages the open pulls may still bring."""
        return sum(lane.left for lane in self._lanes)

    @property
    def is_waiting(self) -> bool:
        """Whether an open pull waits for the next message."""
        return any(lane.left > 0 and not lane.is_probe for lane in self._lanes)

    def can_ask(self, wanted: int) -> bool:
        """Whether `ask` would send a pull, unless an error delays it."""
        return any(lane.left == 0 for lane in self._lanes) and wanted > self.out

    def ask(self, wanted: int, now: float, *, probe: bool) -> list[Pull]:
        """The pulls to send now; recorded as sent.

        Args:
            wanted: How many messages may be under way.
            now: The time.
            probe: Whether to find out first if messages wait, unless that is known.
        """
        pulls: list[Pull] = []
        for index, lane in enumerate(self._lanes):
            need = wanted - self.out
            if need <= 0 or self.is_delayed(now):
                break
            if lane.left:
                continue
            self._last_number += 1
            self.asked_at = now
            lane.number, lane.left = self._last_number, min(need, MAX_BATCH)
            lane.is_probe = probe and self.pending != 0
            lane.deadline = now + (0.0 if lane.is_probe else EXPIRES_S) + GRACE_S
            pulls.append(Pull(index, lane.number, lane.left, lane.is_probe))
        return pulls

    def arrived(self, index: int, pending: int, now: float) -> None:
        """A message arrived on a lane; `pending` more wait at the consumer."""
        lane = self._lanes[index]
        lane.left = max(0, lane.left - 1)
        self._learn(pending, now)
        self._failures = 0

    def returned(self) -> None:
        """Messages were returned to the consumer: at least one waits there."""
        self.pending = max(1, self.pending or 0)
        self.empty_at = -math.inf

    def ended(self, index: int, status: PullStatus, now: float) -> None:
        """A pull was answered with a status; an error delays the next pull. A late status changes nothing."""
        lane = self._lanes[index]
        if status.kind is StatusKind.HEARTBEAT or status.pull != lane.number or lane.left == 0:
            return
        lane.left = 0
        if status.kind is StatusKind.COMPLETED:
            self._failures = 0
            self._learn(0, now)
        else:
            self.pending = None
            self._back_off(NO_CONSUMER_DELAY_S if status.kind is StatusKind.NO_CONSUMER else ERROR_DELAY_S, now)

    def overdue(self, now: float) -> bool:
        """Whether an open pull is past its end: what it requested will not arrive any more."""
        return any(lane.left > 0 and lane.deadline <= now for lane in self._lanes)

    def failed(self, now: float) -> None:
        """A pull could not be sent."""
        self._back_off(ERROR_DELAY_S, now)

    def is_delayed(self, now: float) -> bool:
        """Whether an error delays the next pull."""
        return now < self._not_before

    def rest(self) -> None:
        """Nothing is wanted: without an open pull, an empty queue does not stay known as empty."""
        if self.pending == 0 and self.out == 0:
            self.pending = None

    def forget(self) -> None:
        """Drop all pulls: their connection, inbox or consumer is gone."""
        for lane in self._lanes:
            lane.left = 0
        self.pending = None

    def reset_backoff(self) -> None:
        """Send the next pull without delay: it will probably succeed."""
        self._failures = 0
        self._not_before = 0.0

    def next_moment(self, wanted: int, now: float) -> float | None:
        """When to check again if nothing happens before."""
        moments = [lane.deadline for lane in self._lanes if lane.left > 0]
        if wanted > self.out and self.is_delayed(now):
            moments.append(self._not_before)
        return min(moments, default=None)

    def _learn(self, pending: int, now: float) -> None:
        self.pending = pending
        if pending == 0:
            self.empty_at = now

    def _back_off(self, longest_s: float, now: float) -> None:
        delay = min(FIRST_DELAY_S * 2**self._failures, longest_s)
        self._failures = min(self._failures + 1, 16)
        self._not_before = now + delay * self._random.uniform(0.5, 1.0)
