"""The memory for bodies: one sum for the process and one for each worker."""

from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_service.body_progress import Stream, read_body

RETRY_S = 2.0
LARGE_SHARE = 0.75
"""The part of the memory that large bodies may fill: small ones still arrive beside them."""


class MemoryLimit(StrEnum):
    """What refused a body, as metrics show it."""

    ALL = "body_memory"
    OF_OWNER = "body_memory_of_worker"


OnLimit = Callable[[MemoryLimit], None]
"""Called each time that a body is refused."""


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


async def read_counted(stream: Stream, limit: int, memory: Memory) -> bytes:
    """A whole body. What is counted of one that does not arrive as a whole is given back.

    Raises:
        BodyStalled: See `read_body`.
        BodyTooLarge: See `read_body`.
    """
    counted = 0

    def count(arrived: int) -> None:
        nonlocal counted
        memory.add(arrived)
        counted += arrived

    try:
        return await read_body(stream, limit=limit, on_bytes=count)
    except BaseException:
        memory.remove(counted)
        raise


class BodyMemory:
    """Counts the bytes of the bodies that are in memory.

    Bytes are counted when they arrive, not when they are announced: a client that announces a large body and sends
    nothing takes nothing from others.

    Args:
        of_all: The most bytes for all callers together.
        of_owner: The most bytes for one caller.
        on_limit: Counts refusals.
    """

    def __init__(self, of_all: int, of_owner: int, on_limit: OnLimit) -> None:
        self._of_all = of_all
        self._of_owner = of_owner
        self._on_limit = on_limit
        self._by_owner: Counter[str] = Counter()
        self.used = 0

    def account(self, owner: str, *, large_from: int | None = None) -> "BodyAccount":
        """Count a body for its owner while inside.

        Args:
            owner: A worker's name, or what else identifies a caller whose credential was accepted.
            large_from: With more bytes than this, the body must leave room for others; None for a body of a kind that
                is small.
        """
        return BodyAccount(self, owner, large_from)

    def take(self, owner: str, count: int, *, large: bool) -> None:
        """Count bytes that have arrived.

        Raises:
            EdgeError: `rate_limited`: they do not fit. The caller must drop what it has of the body.
        """
        room = int(self._of_all * LARGE_SHARE) if large else self._of_all
        if self._by_owner[owner] + count > self._of_owner:
            self._refuse(MemoryLimit.OF_OWNER, f"at most {self._of_owner} bytes at once for one worker")
        if self.used + count > room:
            self._refuse(MemoryLimit.ALL, "too many bodies at once")
        self._by_owner[owner] += count
        self.used += count

    def _refuse(self, limit: MemoryLimit, why: str) -> None:
        self._on_limit(limit)
        raise EdgeError(ErrorCode.RATE_LIMITED, f"no memory for the body: {why}", retry_after_s=RETRY_S)

    def free(self, owner: str, count: int) -> None:
        """Bytes are no longer in memory."""
        self.used -= count
        self._by_owner[owner] -= count
        if not self._by_owner[owner]:
            del self._by_owner[owner]


class BodyAccount:
    """The bytes of one body in memory, until the end of the block."""

    def __init__(self, memory: BodyMemory, owner: str, large_from: int | None) -> None:
        self._memory = memory
        self._owner = owner
        self._large_from = large_from
        self.held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._memory.free(self._owner, self.held)

    def add(self, count: int) -> None:
        """Count bytes that have arrived.

        Raises:
            EdgeError: See `BodyMemory.take`.
        """
        is_large = self._large_from is not None and self.held + count > self._large_from
        self._memory.take(self._owner, count, large=is_large)
        self.held += count

    def remove(self, count: int) -> None:
        """Bytes were passed on and are no longer in memory."""
        self._memory.free(self._owner, count)
        self.held -= count
