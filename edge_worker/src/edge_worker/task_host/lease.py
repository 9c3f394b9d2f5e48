"""The lease: when the agent last sent a poll that the relay answered, for supervisors whose agent has died.

A worker's right to run counts from that time. The agent writes the lease next to the gateway's socket after each
answered poll; the supervisor of a task outlives the agent, and reads the lease when no agent answers.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

from edge_worker.task_host.job_files import boot_id

LEASE = "lease"

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds since boot by a clock that counts suspend, where there is one; the same for all processes."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True)
class StoredLease:
    """The content of the file.

    Attributes:
        boot: The boot to which `sent_at` belongs.
        sent_at: When the last answered poll was sent, by `now`.
    """

    boot: str
    sent_at: float


def read_lease(path: Path) -> StoredLease | None:
    """The lease of this boot; None if there is none, or if it cannot be read."""
    try:
        fields = json.loads(path.read_bytes())
        lease = StoredLease(str(fields["boot"]), float(fields["sent_at"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return lease if lease.boot == boot_id() else None
