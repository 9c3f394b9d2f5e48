"""Whether a job that calls is a dispatch that Airflow made, by Airflow's database.

The record alone does not prove it: the relay's NATS user may write records, also of jobs that no worker runs.
"""

import time

from edge_bridge.keeper.dispatch import Dispatched, Dispatches, is_current, is_wanted
from edge_schemas.life.model import JobRecord

READS_FOR_S = 5.0
"""How long a confirmed job may read without another query. A write is compared each time."""
MAX_CONFIRMED = 20_000


class CurrentDispatch:
    """Compares jobs of tasks with their rows. A callback or a connection test has no row that names a dispatch.

    Args:
        dispatches: Airflow's database.
    """

    def __init__(self, dispatches: Dispatches) -> None:
        self._dispatches = dispatches
        self._confirmed: dict[str, tuple[float, Dispatched]] = {}

    async def find(self, record: JobRecord, *, for_read: bool) -> Dispatched | None:
        """The dispatch, if its job may read, or write; after its final state too, since the SDK still writes then.

        Raises:
            DatabaseUnavailable: Try again later.
        """
        if record.task is None:
            return Dispatched(None, None)
        until, confirmed = self._confirmed.get(record.id, (0.0, None))
        if for_read and until > time.monotonic():
            return confirmed
        row = await self._dispatches.one(record.task.ti_id)
        is_at_its_end = record.finishing or record.accepted_state is not None
        found = row if (is_current if is_at_its_end else is_wanted)(record, row) else None
        if found is None and is_at_its_end:
            # The next try has another id; the history keeps this one.
            found = await self._dispatches.earlier(record.task.ti_id, record.id)
        return None if found is None else self._confirm(record.id, Dispatched(found.queue, found.dag))

    def _confirm(self, job: str, dispatched: Dispatched) -> Dispatched:
        now = time.monotonic()
        if len(self._confirmed) >= MAX_CONFIRMED:
            self._confirmed = {one: known for one, known in self._confirmed.items() if known[0] > now}
        if len(self._confirmed) < MAX_CONFIRMED:
            self._confirmed[job] = (now + READS_FOR_S, dispatched)
        return dispatched
