"""How many answers with bundles are on their way: each holds some memory for as long as its worker reads it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from edge_relay.limits.kinds import Limit, OnLimit
from edge_schemas.wire.errors import EdgeError, ErrorCode

RETRY_S = 2.0


class OpenAnswers:
    """The answers of this replica.

    Args:
        most: Of all workers.
        of_worker: Of one worker.
        on_limit: Counts refusals.
    """

    def __init__(self, *, most: int, of_worker: int, on_limit: OnLimit) -> None:
        self._most = most
        self._of_worker = of_worker
        self._on_limit = on_limit
        self._by_worker: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._by_worker.total()

    @contextmanager
    def counted(self, worker: str) -> Iterator[None]:
        """Count an answer while inside.

        Raises:
            EdgeError: `rate_limited`.
        """
        if self._by_worker[worker] >= self._of_worker:
            self._refuse(Limit.BUNDLE_ANSWERS_OF_WORKER, f"at most {self._of_worker} at once for one worker")
        if len(self) >= self._most:
            self._refuse(Limit.BUNDLE_ANSWERS, "too many at this relay")
        self._by_worker[worker] += 1
        try:
            yield
        finally:
            self._by_worker[worker] -= 1
            if not self._by_worker[worker]:
                del self._by_worker[worker]

    def _refuse(self, limit: Limit, why: str) -> None:
        self._on_limit(limit)
        raise EdgeError(ErrorCode.RATE_LIMITED, f"answers with bundles are open: {why}", retry_after_s=RETRY_S)
