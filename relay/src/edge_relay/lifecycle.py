"""Whether this replica accepts work: from the moment that workers can reach it until it stops."""

import asyncio
from collections.abc import Callable

from edge_schemas.wire.errors import EdgeError, ErrorCode

DRAINING_RETRY_S = 1.0


class Lifecycle:
    """A replica that is stopping never accepts polls again."""

    def __init__(self) -> None:
        self.serving = asyncio.Event()
        self.stopping = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []

    def on_stop(self, listener: Callable[[], None]) -> None:
        """Call `listener` once the replica stops."""
        self._listeners.append(listener)

    def serve(self) -> None:
        """The workers' listener accepts connections."""
        self.serving.set()

    def stop(self) -> None:
        """Accept nothing new from now on; may be called twice."""
        self.stopping.set()
        for listener in self._listeners:
            listener()

    def check(self) -> None:
        """Refuse new work once the replica stops.

        Raises:
            EdgeError: `draining`: the caller should use another replica.
        """
        if self.stopping.is_set():
            raise draining()


def draining() -> EdgeError:
    """The answer to calls that wait or arrive while the replica stops."""
    return EdgeError(ErrorCode.DRAINING, retry_after_s=DRAINING_RETRY_S)
