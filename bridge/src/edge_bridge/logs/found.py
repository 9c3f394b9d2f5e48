"""What a read of `EDGE_LOGS` gives; apart from the reading, so that who never reads loads no NATS."""

from dataclasses import dataclass

from edge_bridge.logs.text import Chunk

PATIENCE_S = 2.0
"""How long a log page may wait for NATS."""


class LogsUnavailable(Exception):
    """NATS can't be asked now; the text is for the log page."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What is known of a log.

    Attributes:
        cursor: Stream sequence of the last chunk read.
        more: There is more behind it.
    """

    chunks: tuple[Chunk, ...] = ()
    cursor: int = 0
    size: int = 0
    more: bool = False

    def and_then(self, next_: "Stored") -> "Stored":
        """This and what was read behind it."""
        return Stored(self.chunks + next_.chunks, next_.cursor, self.size + next_.size, next_.more)
