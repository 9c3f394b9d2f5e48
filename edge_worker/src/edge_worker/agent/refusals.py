"""What follows from the relay's refusals of polls. Decides only: `PollLoop` acts on the decision."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from edge_schemas.wire.errors import ErrorCode
from edge_worker.relay.call_result import Refused
from edge_worker.relay.retry import Backoff, is_retryable

SLOW_S = 60.0
SUPERSEDED_FIRST_S = 1.0
SUPERSEDED_S = 30.0


@dataclass(frozen=True)
class Decision:
    """What to do after a refused poll.

    Attributes:
        pause_s: Seconds to wait before the next poll.
        is_new: The last refusal had another code: this one is logged.
        is_link_lost: The refusal is temporary, and no poll succeeds until it is over.
        is_protocol_refused: The relay does not serve this worker's protocol version.
        is_revoked: The credential was revoked; a second answer has confirmed it.
    """

    pause_s: float
    is_new: bool = True
    is_link_lost: bool = False
    is_protocol_refused: bool = False
    is_revoked: bool = False


@dataclass
class Refusals:
    """The refusals of polls since the last poll that succeeded.

    Attributes:
        incarnation: This agent's own.
        backoff: Pauses between polls that fail; shared with failures of other kinds.
        superseded_by: The incarnation in whose favour the last poll was refused; reported with the next poll.
    """

    incarnation: int
    backoff: Backoff
    jitter: Callable[[], float] = random.random
    superseded_by: int | None = field(default=None, init=False)
    _revocations: int = field(default=0, init=False)
    _last_code: str = field(default="", init=False)

    def clear(self) -> None:
        """A poll has succeeded."""
        self.superseded_by = None
        self._revocations = 0
        self._last_code = ""

    def decide(self, error: Refused, *, cap_s: float) -> Decision:
        """What to do about a refusal.

        Args:
            error: The refusal.
            cap_s: The longest pause where the code demands no other.
        """
        if error.code == ErrorCode.SUPERSEDED and error.problem.superseded_by == self.incarnation:
            # A proxy has sent this poll twice. The relay has answered the other copy, and that answer was lost.
            return Decision(self.backoff.next_pause(error, cap_s=cap_s), is_new=False)
        is_new = error.code != self._last_code
        self._last_code = error.code
        match error.code:
            case ErrorCode.DRAINING:
                # With jitter, because all workers of that relay poll again now.
                return Decision((error.retry_after_s or 0) + 5 * self.jitter(), is_new)
            case ErrorCode.CREDENTIAL_REVOKED:
                self._revocations += 1
                pause_s = 2 + self.jitter() if self._revocations < 2 else SLOW_S / 2
                return Decision(pause_s, is_new, is_revoked=self._revocations == 2)
            case ErrorCode.PROTOCOL_UNSUPPORTED:
                return Decision(self._spread(SLOW_S), is_new, is_protocol_refused=True)
            case ErrorCode.SUPERSEDED:
                return Decision(self._superseded(error.problem.superseded_by), is_new)
            case ErrorCode.RATE_LIMITED:
                # The relay works and asks for patience: the link is not lost, and the pause does not grow.
                return Decision((error.retry_after_s or 1) + self.jitter(), is_new)
            case _:
                pause_s = self.backoff.next_pause(error, cap_s=cap_s)
                return Decision(pause_s, is_new, is_link_lost=is_retryable(error))

    def _superseded(self, by: int | None) -> float:
        """The pause; short after the first such refusal: only a poll in time shows that the credential was copied."""
        is_first = by != self.superseded_by
        self.superseded_by = by
        return SUPERSEDED_FIRST_S + 2 * self.jitter() if is_first else self._spread(SUPERSEDED_S)

    def _spread(self, seconds: float) -> float:
        """Half to all of a pause, so that workers do not poll at the same time."""
        return seconds * (0.5 + self.jitter() / 2)
