"""A worker as operators see it: its credential and its last poll."""

from datetime import datetime

from edge_schemas.life import agents
from edge_schemas.wire.worker_entry import AgentSeen, WorkerEntry
from edge_schemas.wire.workers import WorkerAccess, WorkerState, WorkerSummary


def summary(access: WorkerAccess, entry: WorkerEntry | None, now: datetime) -> WorkerSummary:
    """The line of one worker in the list for operators."""
    conflict = None if entry is None else entry.conflict
    tolerances = [job.offline.tolerance_s for job in entry.jobs if job.offline is not None] if entry else []
    return WorkerSummary(
        worker=access.worker,
        site=access.site,
        team=access.team,
        queues=access.settings.queues,
        state=_state(access, entry, now),
        enrolled_at=access.enrolled_at,
        hostname=entry.agent.host or access.hostname if entry else access.hostname,
        last_poll_at=entry.agent.last_poll_at if entry else None,
        slots=entry.slots if entry else None,
        jobs=len(entry.jobs) if entry else None,
        tolerance_s=min(tolerances, default=None),
        conflict=() if conflict is None else (_place(conflict.older), _place(conflict.newer)),
        airflow=entry.versions.airflow if entry else None,
        no_jobs_reason=entry.no_jobs_reason if entry else None,
    )


def _state(access: WorkerAccess, entry: WorkerEntry | None, now: datetime) -> WorkerState:
    """The state that an operator must act upon comes first."""
    if access.revoked_at is not None:
        return WorkerState.REVOKED
    if entry is None:
        return WorkerState.NEVER_SEEN
    if entry.conflict is not None:
        return WorkerState.CONFLICT
    if agents.is_offline(entry, now):
        return WorkerState.OFFLINE
    return WorkerState.DRAINING if entry.draining else WorkerState.ONLINE


def _place(agent: AgentSeen) -> str:
    return f"{agent.host or 'unnamed host'} ({agent.address or 'address unknown'})"
