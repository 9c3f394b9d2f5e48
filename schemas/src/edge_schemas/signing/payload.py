"""What the executor signs of a job, and what of it stays readable outside.

The payload holds the whole job but what changes from grant to grant. Outside stays what relays and keepers need; the
workload, the largest part, is stored once only, in the payload.
"""

from collections.abc import Mapping

from pydantic import ValidationError

from edge_schemas.life.model import JobRecord
from edge_schemas.wire.jobs import AuxiliaryWork, Job, Signed, TaskWork

JOB_CONTEXT = b"edge-relay/job/v1\n"
"""Comes before the payload where it is signed: a signature of something else is never one of a job."""
_OUTSIDE = {"signed", "terms", "attempt"}


class PayloadUnreadable(Exception):
    """A signed payload holds no job of Airflow that this version can read. The text quotes nothing of it."""


def payload_of(job: Job) -> str:
    """What is signed of a job."""
    return job.model_dump_json(exclude_none=True, exclude=_OUTSIDE)


def with_signed(job: Job, signed: Signed) -> Job:
    """The job as it is stored: with the signed payload, and outside of it without the workload.

    The weight stays outside, because relays and executors order jobs by it.
    """
    work = job.work
    if isinstance(work, TaskWork):
        task = work.workload.get("ti")
        weight = task.get("priority_weight") if isinstance(task, Mapping) else None
        rest = {} if weight is None else {"ti": {"priority_weight": weight}}
        return job.model_copy(update={"signed": signed, "work": work.model_copy(update={"workload": rest})})
    if isinstance(work, AuxiliaryWork):
        return job.model_copy(update={"signed": signed, "work": work.model_copy(update={"workload": {}})})
    return job


def job_in(signed: Signed) -> Job:
    """The job in a payload, whose signature must have been checked.

    Raises:
        PayloadUnreadable: It is none of Airflow, or of a version that can't be read.
    """
    try:
        job = Job.model_validate_json(signed.payload)
    except (ValidationError, RecursionError) as error:
        count = error.error_count() if isinstance(error, ValidationError) else 1
        raise PayloadUnreadable(f"its signed payload can't be read: {count} errors") from None
    if job.airflow_work is None or job.terms is not None:
        raise PayloadUnreadable("its signed payload is no job of Airflow")
    return job.model_copy(update={"signed": signed})


def restored(job: Job) -> Job:
    """The job with its workload again, for a worker of a version that knows no signatures. Nothing is checked."""
    if job.signed is None or job.airflow_work is None:
        return job
    try:
        work = job_in(job.signed).work
    except PayloadUnreadable:
        return job
    if isinstance(work, TaskWork) and isinstance(job.work, TaskWork):
        work = work.model_copy(update={"airflow_version": job.work.airflow_version})
    return job.model_copy(update={"work": work})


def contradiction(record: JobRecord, job: Job) -> str | None:
    """Where a record contradicts the job that was signed for it; None if it does not."""
    claimed = (record.id, record.team, record.queue, record.task, record.auxiliary)
    signed = (job.id, job.team, job.queue, job.task, job.auxiliary)
    names = ("id", "team", "queue", "task instance", "auxiliary job")
    differing = [name for name, mine, its in zip(names, claimed, signed, strict=True) if mine != its]
    if record.terms is not None:
        differing.append("kind")
    return f"its record was altered: {', '.join(differing)}" if differing else None
