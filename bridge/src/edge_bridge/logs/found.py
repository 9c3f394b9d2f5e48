"""The result of a read of `EDGE_LOGS`; separate from `reader`, so that processes without reads do not load NATS."""

from dataclasses import dataclass

from edge_bridge.logs.text import Chunk

PATIENCE_S = 2.0
"""How long a log page may wait for NATS."""


class LogsUnavailable(Exception):
    """NATS does not answer now; the text is for the log page."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The part of a log that was read.

    Attributes:
        cursor: Stream sequence of the last chunk read.
        more: More chunks follow.
    """

    chunks: tuple[Chunk, ...] = ()
    cursor: int = 0
    size: int = 0
    more: bool = False

    def and_then(self, next_: "Stored") -> "Stored":
        """This part and the one read after it."""
        return Stored(self.chunks + next_.chunks, next_.cursor, self.size + next_.size, next_.more)
