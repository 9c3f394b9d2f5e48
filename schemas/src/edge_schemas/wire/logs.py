"""Log upload: bytes of one job's log file at an offset.

The relay's answer is the offset up to which the bytes are durable. A chunk that overlaps is trimmed, one that would
leave a gap is rejected with `offset_mismatch` and the expected offset: the worker rewinds to it.
"""

from edge_schemas.wire.base import Outbound

MAX_CHUNK_BYTES = 256 * 1024
"""Of one upload on the wire, compressed or not."""
MAX_CHUNK_DECODED_BYTES = 512 * 1024
"""Of one upload once decompressed: a NATS message with its headers must stay below 1 MiB."""
MAX_JOB_LOG_BYTES = 256 * 1024 * 1024


class LogPosition(Outbound):
    """The answer to an upload."""

    offset: int
