"""How long a poll may be held open on this way to the relay. Learned, because middleboxes do not say when they cut."""

SHORTEST_HOLD_S = 5.0
_TOO_YOUNG_S = 4.0
"""A connection that fails earlier than this was not cut for being idle."""
_SAME_AGE = 0.15


class Hold:
    """Halves the hold when polls are cut at the same age twice in a row."""

    def __init__(self, longest_s: float) -> None:
        self.current_s = longest_s
        self._cut_at_s: float | None = None

    def answered(self, age_s: float) -> None:
        """A poll was answered; one that lasted as long as it might shows that nothing cuts."""
        if age_s >= 0.9 * self.current_s:
            self._cut_at_s = None

    def cut(self, age_s: float) -> bool:
        """A poll broke off; True if the hold was shortened for it."""
        if age_s < _TOO_YOUNG_S:
            return False
        before, self._cut_at_s = self._cut_at_s, age_s
        if before is None or abs(age_s - before) > _SAME_AGE * before or self.current_s <= SHORTEST_HOLD_S:
            return False
        self.current_s = max(SHORTEST_HOLD_S, self.current_s / 2)
        self._cut_at_s = None
        return True
