"""Decides whether a granted job is one that the executor has signed for this worker, and what is run of it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from edge_schemas.signing.payload import JOB_CONTEXT, PayloadUnreadable, job_in
from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.jobs import Job, TaskWork
from edge_schemas.wire.workers import Enrollment
from edge_service.signing.ed25519 import is_signed_by
from edge_worker.log import EventLog
from edge_worker.signing.pinned_keys import PinnedKeys
from edge_worker.signing.ran_jobs import RanJobs

log = EventLog("edge_worker.signing.signed_work")


class Refused(Exception):
    """The job must not be run. The text says why.

    Attributes:
        counts: The job itself is the cause; else it may be right, and this worker does not know the key yet.
    """

    def __init__(self, why: str, *, counts: bool = True) -> None:
        super().__init__(f"{ErrorCode.JOB_NOT_SIGNED}: {why}")
        self.counts = counts


@dataclass(frozen=True)
class SignedWork:
    """What this worker accepts of Airflow's jobs.

    Attributes:
        pinned: The keys that it trusts.
        ran: Signed jobs that have run here.
        enrollment: The worker's queues and team, which may change.
        max_age_s: How long after its dispatch a job is accepted.
        clock: Unix time.
        ask_for_keys: Has newer keys requested soon; returns whether that was not done a moment ago.
    """

    pinned: PinnedKeys
    ran: RanJobs
    enrollment: Callable[[], Enrollment]
    max_age_s: float
    clock: Callable[[], float]
    ask_for_keys: Callable[[], bool]

    def opened(self, job: Job) -> Job:
        """The job that is run for a grant: what was signed, if signatures are required.

        Only the centre's version of Airflow is from outside: it may have changed since, and can only lead to a refusal.

        Raises:
            Refused: Release the job.
        """
        if job.airflow_work is None or not self.pinned.is_required:
            return job
        try:
            return self._opened(job)
        except Refused as error:
            log.error("job_not_signed", job=job.id, reason=str(error))  # noqa: TRY400 - the cause is in the event
            raise

    def _opened(self, job: Job) -> Job:
        self._check_signature(job)
        assert job.signed is not None  # noqa: S101  # checked
        try:
            signed = job_in(job.signed)
        except PayloadUnreadable as error:
            raise Refused(str(error)) from None
        self._check_place(job, signed)
        self._check_age(signed)
        if signed.id in self.ran:
            raise Refused("this job has run here before: it was granted a second time")
        work = signed.work
        if isinstance(work, TaskWork) and isinstance(job.work, TaskWork):
            work = work.model_copy(update={"airflow_version": job.work.airflow_version})
        return signed.model_copy(update={"work": work, "signed": None})

    def _check_signature(self, job: Job) -> None:
        if job.signed is None:
            raise Refused("the executor has not signed it")
        if is_signed_by(job.signed, JOB_CONTEXT, self.pinned.keys):
            return
        if not any(signature.key in self.pinned.keys for signature in job.signed.signatures):
            raise Refused("no key that this worker trusts has signed it", counts=not self.ask_for_keys())
        raise Refused("its signature is wrong: it was altered after it was signed")

    def _check_place(self, job: Job, signed: Job) -> None:
        enrollment = self.enrollment()
        if signed.id != job.id:
            raise Refused("another job was signed")
        if signed.queue not in enrollment.settings.queues or signed.team != enrollment.team:
            raise Refused(f"it was signed for queue {signed.queue!r}, which this worker does not serve")

    def _check_age(self, signed: Job) -> None:
        published = signed.published_at.timestamp()
        if self.clock() - published > self.max_age_s:
            age = timedelta(seconds=int(self.clock() - published))
            raise Refused(f"it was dispatched {age} ago, more than EDGE_WORKER_SIGNED_MAX_AGE_S allows")
        if published < self.ran.not_before:
            raise Refused("it is older than what this worker remembers of the jobs that ran here")

    def has_run(self, job: Job) -> None:
        """User code of a job has begun, or is about to: the job is not run here again."""
        if job.airflow_work is None or not self.pinned.is_required:
            return
        try:
            self.ran.add(job.id, job.published_at.timestamp(), self.clock())
        except OSError as error:
            log.warning("ran_job_not_on_disk", job=job.id, error=str(error))
