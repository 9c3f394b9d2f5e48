"""The memory for request bodies: one sum for the replica and one for each worker."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from edge_relay.limits.kinds import Limit, OnLimit
from edge_schemas.wire.errors import EdgeError, ErrorCode

RETRY_S = 2.0
LARGE_SHARE = 0.75
"""The part of the replica's memory that large bodies may fill: polls and starts still arrive beside them."""


class Memory(Protocol):
    """Where bytes of a body are counted."""

    def add(self, count: int) -> None:
        """Count bytes that have arrived; what is raised ends the reading."""

    def remove(self, count: int) -> None:
        """Bytes are no longer in memory."""


class _Uncounted:
    """For callers that count nothing."""

    def add(self, count: int) -> None:
        """Nothing."""

    def remove(self, count: int) -> None:
        """Nothing."""


UNCOUNTED: Memory = _Uncounted()


class BodyMemory:
    """Counts the bytes of the bodies that are in memory.

    Bytes are counted when they arrive, not when they are announced: a client that announces a large body and sends
    nothing takes nothing from others.

    Args:
        of_replica: The most bytes for all callers together.
        of_owner: The most bytes for one caller.
        on_limit: Counts refusals.
    """

    def __init__(self, of_replica: int, of_owner: int, on_limit: OnLimit) -> None:
        self._of_replica = of_replica
        self._of_owner = of_owner
        self._on_limit = on_limit
        self._by_owner: Counter[str] = Counter()
        self.used = 0

    @contextmanager
    def account(self, owner: str, *, large: bool = False) -> Iterator["BodyAccount"]:
        """Count a body for its owner while inside.

        Args:
            owner: A worker's name, or what else identifies a caller whose credential was accepted.
            large: The body may be so large that bodies of its kind must leave room for others.
        """
        account = BodyAccount(self, owner, large=large)
        try:
            yield account
        finally:
            self.free(owner, account.held)

    def take(self, owner: str, count: int, *, large: bool) -> None:
        """Count bytes that have arrived.

        Raises:
            EdgeError: `rate_limited`: they do not fit. The caller must drop what it has of the body.
        """
        room = int(self._of_replica * LARGE_SHARE) if large else self._of_replica
        if self._by_owner[owner] + count > self._of_owner:
            self._refuse(Limit.BODY_MEMORY_OF_WORKER, f"at most {self._of_owner} bytes at once for one worker")
        if self.used + count > room:
            self._refuse(Limit.BODY_MEMORY, "too many large bodies at once at this relay")
        self._by_owner[owner] += count
        self.used += count

    def _refuse(self, limit: Limit, why: str) -> None:
        self._on_limit(limit)
        raise EdgeError(ErrorCode.RATE_LIMITED, f"no memory for the body: {why}", retry_after_s=RETRY_S)

    def free(self, owner: str, count: int) -> None:
        """Bytes are no longer in memory."""
        self.used -= count
        self._by_owner[owner] -= count
        if not self._by_owner[owner]:
            del self._by_owner[owner]


class BodyAccount:
    """The bytes of one body in memory."""

    def __init__(self, memory: BodyMemory, owner: str, *, large: bool) -> None:
        self._memory = memory
        self._owner = owner
        self._large = large
        self.held = 0

    def add(self, count: int) -> None:
        """Count bytes that have arrived.

        Raises:
            EdgeError: See `BodyMemory.take`.
        """
        self._memory.take(self._owner, count, large=self._large)
        self.held += count

    def remove(self, count: int) -> None:
        """Bytes were passed on and are no longer in memory."""
        self._memory.free(self._owner, count)
        self.held -= count
