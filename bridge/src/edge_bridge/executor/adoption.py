"""Takes over the tasks of a dead scheduler.

A task without a record of its job is returned to Airflow, which schedules it again. A task whose record can't be read
at once is adopted: the reconciler decides later.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm.attributes import set_committed_value

from edge_bridge.airflow import tasks
from edge_bridge.airflow.dispatch_table import Entry
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.records import RecordStore, RecordUnreadable
from edge_schemas.life.model import JobRecord

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance

log = structlog.get_logger(__name__)

READ_S = 0.7
"""The scheduler waits for this, so it is short; a thousand records take about half of it."""
CONCURRENCY = 64


@dataclass(frozen=True, slots=True)
class Adoption:
    """What is done with orphaned dispatches.

    Attributes:
        known: Adopted, with their records.
        undecided: Adopted; their records are read later.
    """

    known: list[tuple[Entry, JobRecord]]
    undecided: list[Entry]

    @property
    def entries(self) -> list[Entry]:
        """All that are adopted."""
        return [*(entry for entry, _ in self.known), *self.undecided]


def load_try_numbers(tis: "Sequence[TaskInstance]") -> None:
    """Load the tries of orphans, which are part of their keys, in one query.

    Airflow loads orphans without them: each would be read in a query of its own.
    """
    try:
        tries = tasks.try_numbers(ti.id for ti in tis)
    except SQLAlchemyError as error:
        log.warning("orphans_read_one_by_one", tasks=len(tis), error=repr(error))
        return
    for ti in tis:
        if ti.id in tries:
            set_committed_value(ti, "try_number", tries[ti.id])


async def read_records(broker: Broker, store: RecordStore, jobs: Iterable[str]) -> dict[str, JobRecord | None]:
    """The records of jobs, from the stream leader, as far as they can be read in a short time.

    The record of a job that is missing in the result could not be read; None means that there is no record.
    """
    limit = asyncio.Semaphore(CONCURRENCY)
    found: dict[str, JobRecord | None] = {}

    async def read(job: str) -> None:
        async with limit:
            try:
                found[job] = await store.get(job)
            except RecordUnreadable as error:
                # Adopted without it; the record is read again, and the failure reported, once the loops follow the job.
                log.warning("adopted_record_unreadable", job=job, error=str(error))

    try:
        async with asyncio.timeout(READ_S):
            await broker.wait_connected()
            await asyncio.gather(*(read(job) for job in jobs))
    except (BrokerUnavailable, TimeoutError) as error:
        log.warning("adoption_without_all_records", read=len(found), error=repr(error))
    return found


def decide(entries: Iterable[Entry], records: dict[str, JobRecord | None]) -> Adoption:
    """Adopt all dispatches but those without a record."""
    adoption = Adoption([], [])
    for entry in entries:
        if entry.job not in records:
            adoption.undecided.append(entry)
        elif (record := records[entry.job]) is not None:
            adoption.known.append((entry, record))
    return adoption
