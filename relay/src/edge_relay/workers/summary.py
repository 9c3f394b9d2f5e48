"""A worker as operators see it: its credential and its last poll."""

from datetime import datetime

from edge_relay.desired.worker_state import worker_state
from edge_schemas.life import agents
from edge_schemas.wire.worker_entry import AgentSeen, WorkerEntry
from edge_schemas.wire.workers import WorkerAccess, WorkerSettings, WorkerState, WorkerSummary


def summary(access: WorkerAccess, settings: WorkerSettings, entry: WorkerEntry | None, now: datetime) -> WorkerSummary:
    """The line of one worker in the list for operators.

    Args:
        access: Its credential.
        settings: Its settings now.
        entry: Of its last poll, if it has polled.
        now: The time.
    """
    conflict = None if entry is None else entry.conflict
    tolerances = [job.offline.tolerance_s for job in entry.jobs if job.offline is not None] if entry else []
    return WorkerSummary(
        worker=access.worker,
        site=access.site,
        team=access.team,
        queues=settings.queues,
        state=_state(access, settings, entry, now),
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


def _state(access: WorkerAccess, settings: WorkerSettings, entry: WorkerEntry | None, now: datetime) -> WorkerState:
    return worker_state(
        is_revoked=access.revoked_at is not None,
        was_seen=entry is not None,
        in_conflict=entry is not None and entry.conflict is not None,
        is_offline=entry is not None and agents.is_offline(entry, now),
        is_healthy=entry is None or entry.no_jobs_reason is None,
        is_draining=entry is not None and entry.draining,
        availability=settings.availability,
    )


def _place(agent: AgentSeen) -> str:
    return f"{agent.host or 'unnamed host'} ({agent.address or 'address unknown'})"
