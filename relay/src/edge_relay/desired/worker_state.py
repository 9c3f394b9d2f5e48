"""The state of a worker in one word. Decided here only, for lists, metrics and filters."""

from edge_schemas.wire.workers import Availability, WorkerState


def worker_state(
    *,
    is_revoked: bool,
    was_seen: bool,
    in_conflict: bool,
    is_offline: bool,
    is_healthy: bool,
    is_draining: bool,
    availability: Availability,
) -> WorkerState:
    """What an operator must act upon comes first.

    Args:
        is_revoked: Its credential has ended.
        was_seen: It has polled, ever; what follows is what its last poll reported.
        in_conflict: Two agents use its credential.
        is_offline: It has missed several contacts in a row.
        is_healthy: It reports no reason of its own for which it accepts no jobs.
        is_draining: It ends its jobs and exits, on whose ever request.
        availability: As operators want it.
    """
    first = (
        (is_revoked, WorkerState.REVOKED),
        (not was_seen, WorkerState.NEVER_SEEN),
        (in_conflict, WorkerState.CONFLICT),
        (is_offline, WorkerState.OFFLINE),
        (not is_healthy and not is_draining, WorkerState.UNHEALTHY),
        (availability is Availability.PAUSED, WorkerState.PAUSED),
        (is_draining or availability is not Availability.ACTIVE, WorkerState.DRAINING),
    )
    return next((state for holds, state in first if holds), WorkerState.ONLINE)
