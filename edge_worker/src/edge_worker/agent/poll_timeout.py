"""How long a poll may be held open on this network path. Measured, because middleboxes do not announce their limits."""

SHORTEST_S = 5.0
_TOO_YOUNG_S = 4.0
"""A connection that fails earlier was not cut because it was idle."""
_SAME_AGE = 0.15


class PollTimeoutTuner:
    """Halves the poll timeout when two polls in a row are cut at the same age.

    Attributes:
        current_s: How long a poll may be held open now.
    """

    def __init__(self, longest_s: float) -> None:
        self.current_s = longest_s
        self._cut_at_s: float | None = None

    def answered(self, age_s: float) -> None:
        """A poll was answered. One that was held for the full timeout shows that nothing cuts it."""
        if age_s >= 0.9 * self.current_s:
            self._cut_at_s = None

    def cut(self, age_s: float) -> bool:
        """A poll's connection broke; True if the timeout was shortened for it."""
        if age_s < _TOO_YOUNG_S:
            return False
        before, self._cut_at_s = self._cut_at_s, age_s
        if before is None or abs(age_s - before) > _SAME_AGE * before or self.current_s <= SHORTEST_S:
            return False
        self.current_s = max(SHORTEST_S, self.current_s / 2)
        self._cut_at_s = None
        return True
