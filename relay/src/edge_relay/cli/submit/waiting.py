"""Says on standard error what a followed job waits for."""

from time import monotonic

from edge_relay.cli.output import Failure
from edge_relay.cli.submit.calls import ProducerCalls
from edge_relay.cli.submit.patience import TOLD_AFTER_S, tell
from edge_schemas.admin.why import CauseCode
from edge_schemas.life.model import JobState
from edge_schemas.producers.submissions import JobStatus

_ASKED_EVERY_S = 10.0
"""Causes change, and each answer costs the relay a look through all jobs."""
_OF_A_TURN = frozenset(
    {CauseCode.ALL_FULL, CauseCode.TOO_FEW_SLOTS, CauseCode.HELD_BACK, CauseCode.BEHIND_OTHERS, CauseCode.STARTING}
)
"""Usual among many jobs."""


class WaitTeller:
    """Asks why a job waits, and says it when it has changed.

    Args:
        calls: To the relay.
        is_batch: That jobs wait for their turn is not said.
    """

    def __init__(self, calls: ProducerCalls, *, is_batch: bool = False) -> None:
        self._calls = calls
        self._unsaid = _OF_A_TURN if is_batch else frozenset()
        self._waits_since: float | None = monotonic()
        self._asked_at = float("-inf")
        self._said: frozenset[CauseCode] | None = None

    def saw(self, status: JobStatus) -> None:
        """Say why the job waits, if it does for some seconds."""
        now = monotonic()
        if status.state is not JobState.WAITING or status.parked is not None:
            self._waits_since = None
            return
        if self._waits_since is None:
            self._waits_since = now
        if now - self._waits_since < TOLD_AFTER_S or now - self._asked_at < _ASKED_EVERY_S:
            return
        self._asked_at = now
        codes, text = self._why(status)
        if text and codes != self._said:
            self._said = codes
            tell(text)

    def _why(self, status: JobStatus) -> tuple[frozenset[CauseCode], str]:
        again = f" again (attempt {status.attempt} of {status.max_attempts} is over)" if status.attempt else ""
        text = f"job {status.job} waits{again} in queue {status.queue}"
        try:
            causes = [one for one in self._calls.why(status.job).causes if one.code not in self._unsaid]
        except Failure:
            # An older relay does not know the call, and one that is away is noticed by the next call.
            return frozenset(), "" if self._unsaid else text
        # Numbers in the sentences change all the time, the codes do not.
        listed = "; ".join(one.text for one in causes)
        return frozenset(one.code for one in causes), f"{text}: {listed}" if causes else ""
