"""How much of the log stream a job, a worker and a queue may use in a time.

These rates decide how soon the stream is full, and so how long the logs of ended jobs stay.
"""

from dataclasses import dataclass

from edge_relay.limits.kinds import Limit, OnLimit
from edge_relay.limits.rates import RateLimit

BURST_S = 64.0
"""So many seconds' bytes may be stored at once."""
LEAST_CHUNK_BYTES = 256 * 1024
"""What a chunk costs its job at least: each one costs a reader about the same, however small it is."""
OVERHEAD_BYTES = 256
"""What the stream needs for a message besides its bytes."""


@dataclass(frozen=True, slots=True)
class LogOwner:
    """Whose budget a log uses."""

    job: str
    worker: str
    queue: str


class LogRates:
    """The rates of this replica.

    Args:
        of_job: Bytes in a second for one job.
        of_worker: The same for all jobs of one worker.
        of_queue: The same for all jobs of one queue.
        on_limit: Counts refusals.
    """

    def __init__(self, *, of_job: int, of_worker: int, of_queue: int, on_limit: OnLimit) -> None:
        self._of_job = RateLimit(of_job, of_job * BURST_S, Limit.LOG_OF_JOB, on_limit)
        self._of_worker = RateLimit(of_worker, of_worker * BURST_S, Limit.LOGS_OF_WORKER, on_limit)
        self._of_queue = RateLimit(of_queue, of_queue * BURST_S, Limit.LOGS_OF_QUEUE, on_limit)

    def check(self, owner: LogOwner) -> None:
        """Check that a chunk may be stored now.

        Raises:
            EdgeError: `rate_limited`.
        """
        self._of_job.check(owner.job)
        self._of_worker.check(owner.worker)
        self._of_queue.check(owner.queue)

    def charge(self, owner: LogOwner, stored: int) -> None:
        """A chunk was sent, stored or not."""
        self._of_job.charge(owner.job, max(stored, LEAST_CHUNK_BYTES))
        self._of_worker.charge(owner.worker, stored + OVERHEAD_BYTES)
        self._of_queue.charge(owner.queue, stored + OVERHEAD_BYTES)

    def charge_read(self, owner: LogOwner, read: int) -> None:
        """The newest chunk had to be read to find the end of the log."""
        self._of_job.charge(owner.job, max(read, LEAST_CHUNK_BYTES))
