"""The holder of a job, now or at its end, cached for calls that are too frequent to ask the broker each time."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

from edge_broker.records import RecordStore
from edge_broker.subjects import log_subject, queue_token
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.errors import EdgeError, ErrorCode

KEPT_S = 10.0
"""A job that was given up before user code ran may get another holder; the former one may continue for this long."""
MAX_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class HolderEntry:
    """A worker that holds a job, or held it when the job ended.

    Attributes:
        started_at: Distinguishes the tenures of one job.
        attempt: The number of this start.
        log_subject: Where the job's log is stored.
        queue: The job's, as a token.
        is_submitted: A producer has submitted the job, and may follow its log.
        ended: The job has ended: its log may have been removed to make room.
    """

    worker: str
    started_at: datetime
    log_subject: str
    queue: str
    ended: bool
    attempt: int
    is_submitted: bool = False

    @property
    def id(self) -> str:
        """Identifies this tenure among those of the job."""
        return f"{self.worker}@{self.started_at.isoformat()}"


class Holders:
    """Caches the holders of jobs for a moment. Refusals are not cached."""

    def __init__(self, records: RecordStore) -> None:
        self._records = records
        self._kept: OrderedDict[str, tuple[float, HolderEntry]] = OrderedDict()

    async def require(self, job: str, worker: str, *, fresh: bool = False) -> HolderEntry:
        """This worker as the holder of a job that runs or has ended; with `fresh` read now, from the stream leader.

        Raises:
            EdgeError: `job_ended` (unknown, or ended without a holder), `wrong_state` (no worker has started it) or
                `not_holder`.
            BrokerUnavailable: Repeat the call.
        """
        now = asyncio.get_running_loop().time()
        kept = self._kept.get(job)
        if kept is not None and not fresh and kept[0] > now and kept[1].worker == worker:
            return kept[1]
        entry = holder_entry(await self._records.get(job), worker)
        self._kept[job] = (now + KEPT_S, entry)
        self._kept.move_to_end(job)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return entry


def holder_entry(record: JobRecord | None, worker: str) -> HolderEntry:
    """This worker as the holder by the record, also after the job ended.

    Raises:
        EdgeError: See `Holders.require`.
    """
    if record is None or (record.holder is None and record.state is JobState.ENDED):
        raise EdgeError(ErrorCode.JOB_ENDED)
    if record.holder is None:
        raise EdgeError(ErrorCode.WRONG_STATE, "the job has not been started")
    if record.holder.worker != worker:
        raise EdgeError(ErrorCode.NOT_HOLDER)
    return HolderEntry(
        worker,
        record.holder.started_at,
        job_log_subject(record),
        queue_token(record.team, record.queue),
        ended=record.state is JobState.ENDED,
        attempt=record.attempt,
        is_submitted=record.terms is not None,
    )


def job_log_subject(record: JobRecord) -> str:
    """By task instance and try number; other jobs have none."""
    if record.task is not None:
        return log_subject(record.task.ti_id, record.task.try_number, record.id)
    # Of a submitted job, or of a record of another version that names neither: the log is stored under the job.
    return log_subject(record.id if record.auxiliary is None else record.auxiliary.id, 0, record.id)
