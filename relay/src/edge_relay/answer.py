"""What a poll is told, computed from state against what it reports. Pure: no clock, no network, no logging."""

from collections.abc import Mapping
from dataclasses import dataclass

from edge_schemas.polls import JobPhase, JobReport, Poll, StopDirective
from edge_schemas.records import JobRecord, JobState
from edge_schemas.workers import WorkerSettings


@dataclass(frozen=True, slots=True)
class Directives:
    """Everything in an answer but the grants; repeated until the report agrees."""

    stop: tuple[StopDirective, ...] = ()
    settings: WorkerSettings | None = None

    def __bool__(self) -> bool:
        return bool(self.stop) or self.settings is not None


def directives(
    worker: str, poll: Poll, records: Mapping[str, JobRecord | None], settings: WorkerSettings
) -> Directives:
    """What to tell a worker.

    Args:
        worker: Who reports.
        poll: Its report.
        records: Of the jobs it reports, None where there is no record. A job that is left out could not be looked up:
            nothing is said about it.
        settings: As they are now.
    """
    stop = (_stop(worker, report, records[report.id]) for report in poll.jobs if report.id in records)
    return Directives(
        stop=tuple(directive for directive in stop if directive is not None),
        settings=settings if settings.version != poll.settings_version else None,
    )


def is_leftover(worker: str, job: str, records: Mapping[str, JobRecord | None]) -> bool:
    """Whether a message that came for this worker only says what it has long started: its ack was lost."""
    record = records.get(job)
    return record is not None and record.holder is not None and record.holder.worker == worker


def _stop(worker: str, report: JobReport, record: JobRecord | None) -> StopDirective | None:
    if record is None or record.state is JobState.ENDED:
        return StopDirective(job=report.id, reason="the job has ended", drop=True)
    if record.holder is not None and record.holder.worker != worker:
        return StopDirective(job=report.id, reason="another worker holds the job", drop=True)
    if record.holder is None:
        return _stop_unheld(report, record)
    if record.state is JobState.STOPPING and report.phase is not JobPhase.FINISHING:
        return StopDirective(job=report.id, reason=record.stop.reason if record.stop else "the job is to stop")
    return None


def _stop_unheld(report: JobReport, record: JobRecord) -> StopDirective | None:
    """A job that waits may have been granted; whoever runs it nevertheless runs what was taken from it."""
    if report.phase is not JobPhase.GRANTED:
        return StopDirective(job=report.id, reason="the job was taken back while the worker was away", drop=True)
    if record.parked is not None:
        return StopDirective(job=report.id, reason="the job was put aside", drop=True)
    return None
