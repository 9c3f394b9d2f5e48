"""Whether this replica still takes work: the difference between running and stopping."""

import asyncio
from collections.abc import Callable

from edge_schemas.errors import EdgeError, ErrorCode

DRAINING_RETRY_S = 1.0


class Lifecycle:
    """One way only: once stopping, a replica never takes polls again."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []

    def on_stop(self, listener: Callable[[], None]) -> None:
        """Call `listener` once the replica stops."""
        self._listeners.append(listener)

    def stop(self) -> None:
        """Take nothing new from now on; may be said twice."""
        self.stopping.set()
        for listener in self._listeners:
            listener()

    def check(self) -> None:
        """Refuse new work once the replica stops.

        Raises:
            EdgeError: `draining`: another replica is to be asked.
        """
        if self.stopping.is_set():
            raise draining()


def draining() -> EdgeError:
    """The answer to whoever waits or comes while the replica stops."""
    return EdgeError(ErrorCode.DRAINING, retry_after_s=DRAINING_RETRY_S)
