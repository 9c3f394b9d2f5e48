"""The state in NATS that concerns one parked poll: its worker's entry and the records of the jobs that it reports.

The mirror of the records shows which jobs may need a directive. The records of those jobs, and no others, are read.
"""

import asyncio
from collections.abc import Iterable

from typing_extensions import override

from edge_relay.dispatch.polls import ParkedPoll
from edge_relay.dispatch.state.reads import Asker, StateReads
from edge_relay.dispatch.state.record_mirror import RecordMirror
from edge_relay.dispatch.state.watched_job import may_need_stop
from edge_schemas.life import agents
from edge_schemas.life.model import JobRecord
from edge_schemas.wire.worker_entry import CredentialConflict, WorkerEntry
from edge_schemas.wire.worker_report import JobReport

GATHER_S = 0.25
"""The records of many jobs may be on their way: they are waited for this long, so that one answer names all."""


class PollState(Asker):
    """What is known of the state.

    Args:
        mirror: Shows what may have changed.
        reads: Reads what has changed.
        parked: The poll; it is woken by each read that matters.
        entry: The worker's entry after the poll arrived.

    Attributes:
        records: What was read through the stream leader; None for a job without a record.
    """

    def __init__(self, mirror: RecordMirror, reads: StateReads, parked: ParkedPoll, entry: WorkerEntry) -> None:
        self._mirror = mirror
        self._reads = reads
        self._parked = parked
        self._entry = entry
        self._gathering: asyncio.TimerHandle | None = None
        self.records: dict[str, JobRecord | None] = {}

    @property
    def is_complete(self) -> bool:
        """Nothing that was asked for is still to come."""
        return not self._reads.waits(self)

    def conflict(self) -> CredentialConflict | None:
        """What keeps this agent from getting jobs, by the entry that was read last."""
        return None if agents.gets_jobs(self._entry, self._parked.agent) else self._entry.conflict

    def refresh(self) -> None:
        """Ask for what may have changed. While the mirror is not current, a poll waits without directives for jobs."""
        parked = self._parked
        if parked.is_notified:
            parked.is_notified = False
            self._reads.entry(parked.worker, self)
        if parked.is_stale and self._mirror.is_current:
            parked.is_stale = False
            parked.changed_jobs.clear()
            self._review(parked.poll.jobs)
        elif parked.changed_jobs:
            changed = [parked.reports[job] for job in parked.changed_jobs]
            parked.changed_jobs.clear()
            self._review(changed)

    def close(self) -> None:
        """Wait for nothing any more."""
        self._reads.leave(self)
        if self._gathering is not None:
            self._gathering.cancel()

    @override
    def record_read(self, job: str, record: JobRecord | None) -> None:
        self.records[job] = record
        self._gather()

    @override
    def record_unreadable(self, job: str) -> None:
        self.records.pop(job, None)
        self._gather()

    @override
    def entry_read(self, entry: WorkerEntry | None) -> None:
        if entry is not None:
            current = agents.current_arrival(entry, self._parked.agent)
            if current.arrival != self._parked.agent.arrival:
                self._parked.superseded_by = current
            self._entry = entry
        self._parked.wake.set()

    def _review(self, reports: Iterable[JobReport]) -> None:
        """Ask for the records of the jobs that may need a directive."""
        worker = self._parked.worker
        for report in reports:
            if may_need_stop(worker, report, self._mirror.get(report.id)):
                self._reads.record(report.id, self)
            else:
                self.records.pop(report.id, None)

    def _gather(self) -> None:
        if self.is_complete:
            self._parked.wake.set()
        elif self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_S, self._parked.wake.set)
