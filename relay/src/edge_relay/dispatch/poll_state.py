"""The state in NATS that concerns one parked poll: its worker's entry and the records of the jobs that it reports."""

import asyncio

import structlog

from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.records import RecordStore, RecordUnreadable
from edge_relay.dispatch.polls import ParkedPoll
from edge_relay.stores.worker_store import WorkerStore
from edge_schemas.life import agents
from edge_schemas.life.model import JobRecord
from edge_schemas.wire.worker_entry import CredentialConflict, WorkerEntry

log = structlog.get_logger(__name__)

REFRESH_TIMEOUT_S = 2.0
"""How long reading the state may keep a poll from noticing anything else."""
RECORDS_AT_ONCE = 16


class PollState:
    """What is known of the state, read again after each notice.

    Args:
        workers: The entries of workers.
        records: The records of jobs.
        parked: The poll.
        entry: The worker's entry after the poll arrived.
    """

    def __init__(self, workers: WorkerStore, records: RecordStore, parked: ParkedPoll, entry: WorkerEntry) -> None:
        self._workers = workers
        self._store = records
        self._parked = parked
        self._entry = entry
        self.records: dict[str, JobRecord | None] = {}

    def conflict(self) -> CredentialConflict | None:
        """What keeps this agent from getting jobs, by the entry that was read last."""
        return None if agents.gets_jobs(self._entry, self._parked.agent) else self._entry.conflict

    async def refresh(self) -> bool:
        """Read the state if it may have changed; False if it could not be read.

        Raises:
            EdgeError: `superseded`.
        """
        parked = self._parked
        if not parked.is_stale:
            return True
        notified, parked.is_stale, parked.is_notified = parked.is_notified, False, False
        try:
            async with asyncio.timeout(REFRESH_TIMEOUT_S):
                if notified:
                    await self._read_entry()
                await self._read_records()
        except (BrokerUnavailable, TimeoutError) as error:
            log.debug("poll_refresh_failed", error=repr(error))
            parked.is_stale = True
            parked.is_notified = notified
            return False
        return True

    async def _read_entry(self) -> None:
        entry = await self._workers.get(self._parked.worker)
        if entry is None:
            return
        current = agents.current_arrival(entry, self._parked.agent)
        if current.arrival != self._parked.agent.arrival:
            raise agents.superseded(by=current)
        self._entry = entry

    async def _read_records(self) -> None:
        jobs = [job.id for job in self._parked.poll.jobs]
        for first in range(0, len(jobs), RECORDS_AT_ONCE):
            some = jobs[first : first + RECORDS_AT_ONCE]
            for job, record in zip(some, await asyncio.gather(*map(self._read, some)), strict=True):
                if isinstance(record, RecordUnreadable):
                    self.records.pop(job, None)
                else:
                    self.records[job] = record

    async def _read(self, job: str) -> JobRecord | RecordUnreadable | None:
        """The record; an unreadable one is returned as its error, as the worker's other jobs need their directives."""
        try:
            return await self._store.get(job)
        except RecordUnreadable as error:
            log.warning("record_unreadable", job=job)
            return error
