"""Whether this replica still takes work: the difference between running and stopping."""

import asyncio

from edge_schemas.errors import EdgeError, ErrorCode

DRAINING_RETRY_S = 1.0


class Lifecycle:
    """One way only: once stopping, a replica never takes polls again."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()

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
