"""Whether an agent may continue a job that an older agent of the same worker holds."""

from datetime import UTC, datetime

from edge_relay.stores.worker_store import WorkerStore
from edge_schemas.life.agents import check_taken_over
from edge_schemas.life.model import JobRecord


async def check_takeover(workers: WorkerStore, record: JobRecord, incarnation: int) -> None:
    """Refuse an agent that continues a job of an older agent of its worker while the older agent may be alive.

    Raises:
        EdgeError: `takeover_pending`.
    """
    holder = record.holder
    if holder is not None and incarnation > holder.incarnation:
        entry = await workers.get(holder.worker)
        check_taken_over(entry, holder=holder.incarnation, incarnation=incarnation, now=datetime.now(UTC))
