"""Who may store log bytes: what a queue has in the stream and can't be removed may be as much as is left free.

So one noisy queue leaves half of the room to all others, several leave less, and the rule never uses up the room: each
further queue may store half of what it finds.
"""

from collections import Counter
from collections.abc import Mapping

from edge_relay.limits.kinds import Limit, OnLimit
from edge_schemas.wire.errors import EdgeError, ErrorCode

RETRY_S = 5.0
REPLICAS = 4
"""What this replica has stored since the last look at the stream counts as if so many replicas had stored as much."""


class LogShares:
    """The queues' shares, by what was found in the stream last and what this replica has stored since.

    Args:
        on_limit: Counts refusals.
    """

    def __init__(self, on_limit: OnLimit) -> None:
        self._on_limit = on_limit
        self._used: Counter[str] = Counter()
        self._free: int | None = None

    def set(self, free: int | None, used: Mapping[str, int]) -> None:
        """The stream was looked at.

        Args:
            free: Bytes that it can still store; None if it has no limit.
            used: Bytes that can't be removed, by queue, as far as they are known.
        """
        self._free, self._used = free, Counter(used)

    def check(self, queue: str) -> None:
        """Check that the queue may store a chunk.

        Raises:
            EdgeError: `rate_limited`.
        """
        if self._free is not None and self._used[queue] >= self._free:
            raise self.refusal()

    def charge(self, queue: str, stored: int) -> None:
        """A chunk of the queue is stored."""
        if self._free is not None:
            self._used[queue] += REPLICAS * stored
            self._free -= REPLICAS * stored

    def refusal(self) -> EdgeError:
        """The answer to a chunk that there is no room for: the worker keeps it and sends it again later."""
        self._on_limit(Limit.LOG_SPACE)
        text = "the stream of logs is nearly full; the chunk can be stored later"
        return EdgeError(ErrorCode.RATE_LIMITED, text, retry_after_s=RETRY_S)
