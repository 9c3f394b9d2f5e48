"""Which of the replicas stores a message first, so that mostly one of them does. Pure.

Every replica stores every message, so nothing depends on this choice: the others only do so a moment later, and only if
the job still waits then.
"""

from collections.abc import Iterable
from zlib import crc32


def is_first(replica: str, job: str, replicas: Iterable[str]) -> bool:
    """Whether this replica is the one of all that stores the message of a job at once.

    Args:
        replica: Its name.
        job: The id of the job.
        replicas: The names of those that have sent a beat lately; this one counts in any case.
    """
    own = _weight(replica, job)
    return all(_weight(other, job) <= own for other in replicas if other != replica)


def _weight(replica: str, job: str) -> tuple[int, str]:
    return crc32(f"{replica} {job}".encode()), replica
