"""The log of a submitted job for its producers: from an offset, while it grows."""

from dataclasses import dataclass

from edge_relay.identity.operators.operator import Operator
from edge_relay.limits.rates import RateLimit
from edge_relay.stores.holders import job_log_subject
from edge_relay.stores.log_reader import LogPart, LogReader
from edge_relay.submissions.status import SubmittedJobs
from edge_relay.submissions.waits import StillAllowed, Waits, end_of, log_of
from edge_schemas.life.model import JobState

LOOK_S = 5.0
"""A notice may be lost: the log is read again at least so often."""
LEAST_COST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class JobLogPart:
    """Bytes of a job's log, and the state of the job before they were read."""

    part: LogPart
    state: JobState


class SubmittedLogs:
    """Reads logs.

    Args:
        jobs: Finds the job.
        reader: Reads the log.
        waits: The calls that wait.
        rate: Bytes that one producer may read in a second.
    """

    def __init__(self, jobs: SubmittedJobs, reader: LogReader, waits: Waits, rate: RateLimit) -> None:
        self._jobs = jobs
        self._reader = reader
        self._waits = waits
        self._rate = rate

    async def read(
        self, producer: Operator, job: str, *, offset: int, wait_s: float, check: StillAllowed
    ) -> JobLogPart:
        """Bytes from an offset; with `wait_s`, of a job that has not ended, as soon as there are some.

        Raises:
            EdgeError: `not_found`: there is no such job in a queue of the producer. `rate_limited`.
            BrokerUnavailable: Record or log can't be read.
        """
        self._rate.check(producer.name)
        with self._waits.waiting(producer.name, end_of(job), log_of(job), wait_s=wait_s) as wait:
            while True:
                record = await self._jobs.require(producer, job)
                part = await self._reader.read(job_log_subject(record), offset)
                self._rate.charge(producer.name, max(part.read, LEAST_COST_BYTES))
                check()
                is_over = bool(part.data) or record.state is JobState.ENDED
                if is_over or not await wait.next(LOOK_S):
                    return JobLogPart(part, record.state)
