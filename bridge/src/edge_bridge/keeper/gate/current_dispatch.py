"""Whether a job that calls is a dispatch that Airflow made, by Airflow's database.

The record alone does not prove it: the relay's NATS user may write records, also of jobs that no worker runs.
"""

import time

from edge_bridge.keeper.dispatch import Dispatches, is_current, is_wanted
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
        self._confirmed: dict[str, float] = {}

    async def is_current(self, record: JobRecord, *, for_read: bool) -> bool:
        """Whether the job may read, or write. After its final state it may still write what the SDK sends then.

        Raises:
            DatabaseUnavailable: Try again later.
        """
        if record.task is None or (for_read and self._confirmed.get(record.id, 0.0) > time.monotonic()):
            return True
        row = await self._dispatches.one(record.task.ti_id)
        is_at_its_end = record.finishing or record.accepted_state is not None
        found = is_current(record, row) if is_at_its_end else is_wanted(record, row)
        if not found and is_at_its_end:
            # The next try has another id; the history keeps this one.
            found = await self._dispatches.was_dispatched(record.task.ti_id, record.id)
        if found:
            self._confirm(record.id)
        return found

    def _confirm(self, job: str) -> None:
        now = time.monotonic()
        if len(self._confirmed) >= MAX_CONFIRMED:
            self._confirmed = {one: until for one, until in self._confirmed.items() if until > now}
        if len(self._confirmed) < MAX_CONFIRMED:
            self._confirmed[job] = now + READS_FOR_S
