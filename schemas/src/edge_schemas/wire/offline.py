"""How long a worker may be out of contact before its jobs are given up, and what happens at the edge in the meantime.

Contact is the arrival of a poll at the centre. The worker counts from the moment it *sent* the last poll that was
answered, which is earlier. It freezes the job before the tolerance is over (unless `on_silence` is `continue`), so the
first copy stands still before a second can start.
"""

from enum import StrEnum

from pydantic import Field

from edge_schemas.wire.base import Outbound

DEFAULT_TOLERANCE_S = 900.0
MIN_TOLERANCE_S = 10.0
MAX_TOLERANCE_S = 30 * 86400.0
"""May be longer than an ended record lives: a missing record rejects a late worker just as an ended one does."""
FENCE_MARGIN_S = 30.0
POLLS_PER_FENCE = 3
"""A worker polls at least this often before the fence of one of its jobs."""


class OnSilence(StrEnum):
    """What a worker does with a job when it has been out of contact for nearly the whole tolerance."""

    STOP = "stop"
    CONTINUE = "continue"
    """Two copies may then run at the same time: for tasks that allow it."""


class OfflinePolicy(Outbound):
    """A queue's offline contract; travels with each of its jobs.

    Attributes:
        tolerance_s: Seconds without contact after which the centre gives the job up and Airflow retries it.
    """

    tolerance_s: float = Field(default=DEFAULT_TOLERANCE_S, ge=MIN_TOLERANCE_S, le=MAX_TOLERANCE_S)
    on_silence: OnSilence = OnSilence.STOP

    @property
    def fence_after_s(self) -> float | None:
        """Seconds without contact after which the worker freezes the job; None if the job continues.

        Half a minute before the tolerance is over, or at half of it where it is shorter than a minute. While the agent
        is dead, the supervisor of the job ends the job instead.
        """
        return None if self.on_silence is OnSilence.CONTINUE else self._fence_s

    @property
    def longest_poll_timeout_s(self) -> float:
        """How long a poll of a worker that has this job may wait for its answer."""
        return self._fence_s / POLLS_PER_FENCE

    @property
    def _fence_s(self) -> float:
        return max(self.tolerance_s - FENCE_MARGIN_S, self.tolerance_s / 2)
