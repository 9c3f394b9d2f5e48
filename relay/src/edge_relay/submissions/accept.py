"""Accepts submissions. A job's record is stored before the answer; its message comes later, when a slot needs it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_broker.records import DispatchSeen, RecordStore
from edge_relay.desired.state import DesiredState
from edge_relay.identity.operators.operator import Operator
from edge_relay.limits.kinds import Limit, OnLimit
from edge_relay.limits.rates import RateLimit
from edge_relay.metrics.producers import ProducerMetrics
from edge_relay.submissions.known_jobs import KnownJobs
from edge_relay.submissions.new_job import digest, job_id, make_record
from edge_schemas.admin.desired import DesiredQueue
from edge_schemas.life.model import JobRecord
from edge_schemas.producers.submissions import BatchResult, Submission, SubmissionResult, Submitted
from edge_schemas.wire.errors import ERRORS, EdgeError, ErrorCode

log = structlog.get_logger(__name__)

AT_ONCE = 16
"""Records of one batch that are written at the same time."""
FULL_RETRY_S = 30.0
TRIES = 3
"""A record that was seen may be gone a moment later: its week is over."""
UNAVAILABLE = "the message broker can't be used at the moment; submit the job again, with the same key"
NOT_TRIED = "not tried: the message broker can't be used at the moment; submit the job again"


@dataclass(frozen=True, slots=True)
class SubmissionLimits:
    """What one producer may do at this replica.

    Attributes:
        rate: Submissions of a producer in a second.
        most_waiting: Jobs of a producer that wait in a queue.
    """

    rate: RateLimit
    most_waiting: int
    on_limit: OnLimit


class Submissions:
    """Accepts submissions.

    Args:
        records: Of all jobs.
        desired: What operators have set for queues.
        known: The submitted jobs.
        limits: What one producer may do.
        metrics: Counts submissions.
    """

    def __init__(
        self,
        records: RecordStore,
        desired: DesiredState,
        known: KnownJobs,
        limits: SubmissionLimits,
        metrics: ProducerMetrics,
    ) -> None:
        self._records = records
        self._desired = desired
        self._known = known
        self._limits = limits
        self._metrics = metrics

    async def submit(self, producer: Operator, queue: str, submission: Submission) -> Submitted:
        """Accept one submission; a repeat with the same key changes nothing.

        Raises:
            EdgeError: `forbidden`: the queue does not accept this kind of job. `key_reused`: another submission has the
                key. `rate_limited`: too many submissions, or too many jobs that wait. `payload_too_large`.
            BrokerUnavailable: The outcome is unknown; submit the job again with the same key.
        """
        self._check_rate(producer, 1)
        desired = await self._desired_queue(queue)
        try:
            return await self._submit(producer, queue, submission, desired)
        except EdgeError as error:
            self._metrics.rejected.labels(error.code).inc()
            raise

    async def submit_all(self, producer: Operator, queue: str, submissions: Sequence[Submission]) -> BatchResult:
        """Accept or reject each of several submissions.

        Raises:
            EdgeError: `rate_limited`: too many submissions.
            BrokerUnavailable: Nothing was tried.
        """
        self._check_rate(producer, len(submissions))
        desired = await self._desired_queue(queue)
        results = [SubmissionResult(code=ErrorCode.BROKER_UNAVAILABLE, detail=NOT_TRIED, retryable=True)] * len(
            submissions
        )
        left = iter(enumerate(submissions))
        away = False

        async def work() -> None:
            nonlocal away
            for number, submission in left:
                try:
                    done = await self._submit(producer, queue, submission, desired)
                    results[number] = SubmissionResult(job=done.job, is_new=done.is_new)
                except EdgeError as error:
                    self._metrics.rejected.labels(error.code).inc()
                    results[number] = _rejected(error)
                    away = away or isinstance(error, BrokerUnavailable)
                if away:
                    return

        async with asyncio.TaskGroup() as group:
            for number in range(min(AT_ONCE, len(submissions))):
                group.create_task(work(), name=f"submission-{number}")
        return BatchResult(jobs=tuple(results))

    def _check_rate(self, producer: Operator, count: int) -> None:
        self._limits.rate.take(producer.name, count)

    async def _desired_queue(self, queue: str) -> DesiredQueue:
        await self._desired.wait_ready()
        return self._desired.queue(None, queue)

    async def _submit(self, producer: Operator, queue: str, submission: Submission, desired: DesiredQueue) -> Submitted:
        if desired.kinds is not None and submission.kind not in desired.kinds:
            accepted = ", ".join(desired.kinds) or "no jobs"
            text = (
                f"queue {queue} does not accept jobs of the kind {submission.kind}: its operators have set {accepted}"
            )
            raise EdgeError(ErrorCode.FORBIDDEN, text)
        is_full = self._known.waiting(queue, producer.name) >= self._limits.most_waiting
        if is_full and await self._seen(job_id(queue, submission.key), submission) is None:
            self._limits.on_limit(Limit.WAITING_JOBS)
            text = (
                f"{self._limits.most_waiting} jobs of {producer.name} wait in queue {queue} already; submit more when "
                "some have started"
            )
            raise EdgeError(ErrorCode.RATE_LIMITED, text, retry_after_s=FULL_RETRY_S)
        return await self._create(producer, queue, submission, desired)

    async def _create(self, producer: Operator, queue: str, submission: Submission, desired: DesiredQueue) -> Submitted:
        record = make_record(submission, queue, producer=producer.name, desired=desired, now=datetime.now(UTC))
        for _ in range(TRIES):
            try:
                await self._records.create(record, is_new=submission.key is None)
            except DispatchSeen:
                if await self._seen(record.id, submission) is not None:
                    return Submitted(job=record.id, queue=queue, is_new=False)
            except JetStreamError as error:
                raise BrokerUnavailable(str(error)) from error
            else:
                self._metrics.submissions.labels("", queue, submission.kind).inc()
                log.info("job_submitted", job=record.id, queue=queue, kind=submission.kind, producer=producer.name)
                return Submitted(job=record.id, queue=queue, is_new=True)
        raise BrokerUnavailable(f"the record of job {record.id} is seen and is not there")

    async def _seen(self, job: str, submission: Submission) -> JobRecord | None:
        """The record of this job, if it was submitted before.

        Raises:
            EdgeError: `key_reused`: it was another submission.
        """
        record = await self._records.get(job)
        if record is None:
            return None
        if record.terms is None or record.terms.digest != digest(submission):
            text = f"job {job} was submitted to queue {record.queue} with this key and something else in it"
            raise EdgeError(ErrorCode.KEY_REUSED, text)
        return record


def _rejected(error: EdgeError) -> SubmissionResult:
    """As a problem would say it; the broker's own words may name what is inside the installation."""
    detail = UNAVAILABLE if error.code is ErrorCode.BROKER_UNAVAILABLE else error.detail
    return SubmissionResult(code=error.code, detail=detail, retryable=ERRORS[error.code].retryable)
