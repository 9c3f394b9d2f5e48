"""Taking over the tasks of a scheduler that is gone.

A task whose job nobody knows goes back to be scheduled anew. What can't be found out at once is adopted: the
reconciler decides later.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from edge_bridge.airflow.dispatch_table import Entry
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.records import RecordStore
from edge_schemas.life.model import JobRecord

log = structlog.get_logger(__name__)

READ_S = 0.7
"""The scheduler waits for this, so it is short; a thousand records take about half of it."""
CONCURRENCY = 64


@dataclass(frozen=True, slots=True)
class Adoption:
    """What becomes of orphaned dispatches.

    Attributes:
        known: Adopted, with their records.
        undecided: Adopted, to be looked at later.
    """

    known: list[tuple[Entry, JobRecord]]
    undecided: list[Entry]


async def read_records(broker: Broker, store: RecordStore, jobs: Iterable[str]) -> dict[str, JobRecord | None]:
    """The records of jobs, from the stream leader, as far as they can be had in a short time.

    A job that is missing in the answer could not be read; None means that there is no record.
    """
    limit = asyncio.Semaphore(CONCURRENCY)
    found: dict[str, JobRecord | None] = {}

    async def read(job: str) -> None:
        async with limit:
            found[job] = await store.get(job)

    try:
        async with asyncio.timeout(READ_S):
            await broker.wait_connected()
            await asyncio.gather(*(read(job) for job in jobs))
    except (BrokerUnavailable, TimeoutError) as error:
        log.warning("adoption_without_all_records", read=len(found), error=repr(error))
    return found


def decide(entries: Iterable[Entry], records: dict[str, JobRecord | None]) -> Adoption:
    """Who is adopted; whoever has no record is not."""
    adoption = Adoption([], [])
    for entry in entries:
        if entry.job not in records:
            adoption.undecided.append(entry)
        elif (record := records[entry.job]) is not None:
            adoption.known.append((entry, record))
    return adoption
