"""Whether the agent that calls may act for a job that its worker holds: it may be a copy, or an older agent may run."""

from datetime import UTC, datetime

from edge_relay.identity.principals import Principal
from edge_relay.stores.worker_store import WorkerStore
from edge_schemas.life.agents import check_taken_over, is_holding_agent, takeover_pending
from edge_schemas.life.model import JobRecord


async def check_takeover(workers: WorkerStore, record: JobRecord, principal: Principal, incarnation: int) -> None:
    """Refuse an agent that continues or ends a job of another agent of its worker, while that one may be alive.

    Raises:
        EdgeError: `takeover_pending`.
    """
    holder = record.holder
    if holder is None or holder.worker != principal.worker:
        return
    if is_holding_agent(holder, incarnation, principal.agent_key_hash):
        return
    entry = await workers.get(holder.worker)
    check_taken_over(
        entry,
        incarnation=max(incarnation, holder.incarnation),
        key_hash=principal.agent_key_hash,
        now=datetime.now(UTC),
    )


async def check_uncontested(workers: WorkerStore, record: JobRecord, principal: Principal) -> None:
    """Refuse the calls of a job's task while two agents use the credential and this one has not started the job.

    Raises:
        EdgeError: `takeover_pending`.
    """
    holder = record.holder
    if holder is None or holder.key_hash in {None, principal.agent_key_hash}:
        return
    entry = await workers.get(holder.worker)
    if entry is not None and entry.conflict is not None:
        raise takeover_pending()
