"""How many connections the limit of open files allows."""

import resource

OWN_FILES = 128
"""Operators' connections, NATS, logs and what libraries open."""
GATE_SHARE = 8
"""One part of so many is left for connections to keepers: a task's call has one on each side."""
LEAST = 16


def connections_allowed() -> int:
    """How many connections of workers this process can have."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(LEAST, files - OWN_FILES - files // GATE_SHARE)
