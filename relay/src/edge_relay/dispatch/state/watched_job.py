"""What of a job's record decides whether its worker gets a directive."""

from dataclasses import dataclass

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from edge_schemas.life.model import JobState
from edge_schemas.wire.worker_report import JobPhase, JobReport

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WatchedJob:
    """A job that has not ended, by a record that may be outdated.

    Attributes:
        holder: The worker that holds it.
    """

    state: JobState
    holder: str | None
    is_parked: bool


class _Holder(BaseModel):
    worker: str


class _Record(BaseModel):
    """The fields that count here. Most changes of a record do not concern its worker."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    state: JobState
    holder: _Holder | None = None
    parked: str | None = None


def watched_job(job: str, value: bytes) -> WatchedJob | None:
    """The job of a record as it is stored; None if it has ended or its record can't be read."""
    try:
        record = _Record.model_validate_json(value)
    except ValidationError as error:
        log.warning("record_unreadable", job=job, errors=error.error_count())
        return None
    if record.state is JobState.ENDED:
        return None
    holder = None if record.holder is None else record.holder.worker
    return WatchedJob(record.state, holder, record.parked is not None)


def may_need_stop(worker: str, report: JobReport, job: WatchedJob | None) -> bool:
    """Whether `directives` makes a directive for a job, if its record is as it was watched.

    Args:
        worker: The worker that reports the job.
        report: Its report.
        job: None for a job without a record, or whose record has ended.
    """
    if job is None:
        return True
    if job.holder is None:
        return report.phase is not JobPhase.GRANTED or job.is_parked
    if job.holder != worker:
        return True
    return job.state is JobState.STOPPING and report.phase is not JobPhase.FINISHING
