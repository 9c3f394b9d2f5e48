"""Calls of producers that wait for something of a job: few at once, and answered when the replica stops."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from edge_relay.lifecycle import Lifecycle
from edge_relay.limits.kinds import Limit, OnLimit
from edge_schemas.wire.errors import EdgeError, ErrorCode

RETRY_S = 5.0

StillAllowed = Callable[[], object]
"""Raises what the call would be refused with now: it may have waited since it was allowed."""


def end_of(job: str) -> str:
    """The topic of the end of a job."""
    return f"end {job}"


def log_of(job: str) -> str:
    """The topic of new bytes in a job's log."""
    return f"log {job}"


def end_of_token(producer: str) -> str:
    """The topic of the revocation of a producer's access token."""
    return f"token {producer}"


class Wait:
    """One call that waits. A wake-up before it waits is not lost."""

    def __init__(self, until: float, lifecycle: Lifecycle) -> None:
        self._until = until
        self._lifecycle = lifecycle
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Something may have happened."""
        self._woken.set()

    async def next(self, at_most_s: float | None = None) -> bool:
        """Wait until something may have happened; False once the time is over or the replica stops.

        Args:
            at_most_s: Return after this time in any case.
        """
        left_s = self._until - asyncio.get_running_loop().time()
        if left_s <= 0 or self._lifecycle.stopping.is_set():
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(left_s if at_most_s is None else min(left_s, at_most_s)):
                await self._woken.wait()
        self._woken.clear()
        return True


class Waits:
    """The calls that wait.

    Args:
        lifecycle: Once it stops, no call waits.
        most: Calls that wait at once.
        of_owner: Calls of one producer that wait at once.
        on_limit: Counts refusals.
    """

    def __init__(self, lifecycle: Lifecycle, *, most: int, of_owner: int, on_limit: OnLimit) -> None:
        self._lifecycle = lifecycle
        self._most = most
        self._of_owner = of_owner
        self._on_limit = on_limit
        self._by_topic: dict[str, set[Wait]] = {}
        self._by_owner: Counter[str] = Counter()
        lifecycle.on_stop(self.wake_all)

    def __len__(self) -> int:
        return self._by_owner.total()

    @contextmanager
    def waiting(self, owner: str, *topics: str, wait_s: float) -> Iterator[Wait]:
        """A call that may wait while inside; without a time it does not count.

        Args:
            owner: The producer.
            topics: What may happen, as `wake` names it.
            wait_s: For how long.

        Raises:
            EdgeError: `rate_limited`.
        """
        topics = (*topics, end_of_token(owner))
        wait = Wait(asyncio.get_running_loop().time() + wait_s, self._lifecycle)
        if not wait_s:
            yield wait
            return
        if self._by_owner[owner] >= self._of_owner:
            self._refuse(Limit.WAITS_OF_PRODUCER, f"at most {self._of_owner} calls of {owner} may wait at once")
        if len(self) >= self._most:
            self._refuse(Limit.WAITS, "too many calls wait at this relay")
        self._by_owner[owner] += 1
        for topic in topics:
            self._by_topic.setdefault(topic, set()).add(wait)
        try:
            yield wait
        finally:
            for topic in topics:
                self._by_topic[topic].discard(wait)
                if not self._by_topic[topic]:
                    del self._by_topic[topic]
            self._by_owner[owner] -= 1
            if not self._by_owner[owner]:
                del self._by_owner[owner]

    def wake(self, topic: str) -> None:
        """Wake the calls that wait for this."""
        for wait in self._by_topic.get(topic, ()):
            wait.wake()

    def token_revoked(self, producer: str) -> None:
        """Wake the calls of a producer: each looks at its token again."""
        self.wake(end_of_token(producer))

    def wake_all(self) -> None:
        """Wake all: the replica stops, or what has happened was not seen."""
        for waits in self._by_topic.values():
            for wait in waits:
                wait.wake()

    def _refuse(self, limit: Limit, why: str) -> None:
        self._on_limit(limit)
        raise EdgeError(ErrorCode.RATE_LIMITED, f"{why}; ask without wait, or later", retry_after_s=RETRY_S)
