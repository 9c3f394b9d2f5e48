"""How fast jobs of a queue are started."""

from edge_relay.upkeep.order.start_rate import WINDOW_S, StartRate

QUEUE = (None, "default")


class Clock:
    """Monotonic seconds that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_better_of_the_last_two_seconds_counts() -> None:
    """So a burst has its effect at once, and the first moment of a second does not look like a pause."""
    clock = Clock()
    rate = StartRate(clock)
    assert rate.per_s(*QUEUE) == 0
    for _ in range(5):
        rate.started(*QUEUE)
    assert rate.per_s(*QUEUE) == 5
    clock.now += WINDOW_S
    rate.started(*QUEUE)
    assert rate.per_s(*QUEUE) == 5
    clock.now += WINDOW_S
    assert rate.per_s(*QUEUE) == 1


def test_a_pause_ends_it() -> None:
    clock = Clock()
    rate = StartRate(clock)
    rate.started(*QUEUE)
    clock.now += 2 * WINDOW_S + 0.3
    assert rate.per_s(*QUEUE) == 0
    rate.started(*QUEUE)
    clock.now += 0.7  # windows keep their beginning
    assert rate.per_s(*QUEUE) == 1
    assert rate.per_s("team", "default") == 0
