"""Decides whether and when a failed call is repeated, for every caller."""

import random
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import TypeVar

from edge_schemas.wire.errors import ERRORS, ErrorCode
from edge_worker.relay.call_result import CallError, NoAnswer, Refused

T = TypeVar("T")
Pause = Callable[[float], Awaitable[None]]

_CREDENTIAL_STATUSES = frozenset({401, 403, 407})


class Fate(Enum):
    """What is done about a failed call."""

    RETRY = auto()
    RETRY_SLOWLY = auto()
    """A person must change something first: a password at the proxy, a credential at the relay."""
    FINAL = auto()


def fate_of(error: CallError) -> Fate:
    """Whether the same call may succeed later."""
    if isinstance(error, NoAnswer):
        return Fate.RETRY_SLOWLY if error.proxy_status in _CREDENTIAL_STATUSES else Fate.RETRY
    if isinstance(error, Refused):
        if error.code == ErrorCode.UNAUTHENTICATED:
            return Fate.RETRY_SLOWLY
        return Fate.RETRY if is_retryable(error) else Fate.FINAL
    msg = f"unknown kind of failed call: {error!r}"
    raise TypeError(msg)


def is_retryable(error: Refused) -> bool:
    """From the table `ERRORS`; for a code that is newer than this worker, from the relay's answer."""
    try:
        return ERRORS[ErrorCode(error.code)].retryable
    except ValueError:
        return error.problem.retryable


class Backoff:
    """Growing pauses with jitter between the repetitions of one call or loop.

    Args:
        first_s: The first pause, before jitter.
        cap_s: Longest pause after an ordinary failure.
        slow_s: Pause after a failure that only a person can correct.
        jitter: Returns a number from 0 to 1 for each pause; a pause is between half and all of its nominal length.
    """

    def __init__(
        self,
        *,
        first_s: float = 0.25,
        cap_s: float = 15.0,
        slow_s: float = 30.0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._slow_s = slow_s
        self._jitter = jitter
        self._failures = 0

    def reset(self) -> None:
        """The call has succeeded."""
        self._failures = 0

    def next_pause(self, error: CallError, *, cap_s: float | None = None) -> float:
        """Seconds to wait before the next try; never less than the relay asked for.

        Args:
            error: Why the last try failed.
            cap_s: Replaces the usual limit for this pause.
        """
        cap_s = self._cap_s if cap_s is None else cap_s
        # The exponent is bounded: a loop may fail for months.
        nominal = min(cap_s, self._first_s * 2.0 ** min(self._failures, 16))
        self._failures += 1
        if fate_of(error) is Fate.RETRY_SLOWLY:
            nominal = self._slow_s
        pause = nominal * (0.5 + self._jitter() / 2)
        asked = error.retry_after_s if isinstance(error, Refused) else None
        return pause if asked is None else asked + min(pause, cap_s)


async def until_final(
    call: Callable[[], Awaitable[T]],
    *,
    pause: Pause,
    backoff: Backoff | None = None,
    on_retry: Callable[[CallError, float], None] | None = None,
) -> T:
    """Repeats a call until it succeeds or is finally refused.

    Args:
        call: Makes the call; must be harmless to repeat.
        pause: Waits; `Link.pause`, which ends early when the relay is back.
        backoff: The pauses.
        on_retry: Called with each failure and the pause that follows; an exception from it ends the repetitions.

    Raises:
        Refused: With a code that no repetition can change.
    """
    backoff = backoff or Backoff()
    while True:
        try:
            return await call()
        except CallError as error:
            if fate_of(error) is Fate.FINAL:
                raise
            delay = backoff.next_pause(error)
            if on_retry is not None:
                on_retry(error, delay)
        await pause(delay)
