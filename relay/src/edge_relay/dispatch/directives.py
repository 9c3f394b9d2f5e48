"""What a poll is told, computed from state against what it reports. Pure: no clock, no network, no logging."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.polls import Poll, StopDirective
from edge_schemas.wire.worker_entry import CredentialConflict
from edge_schemas.wire.worker_report import JobPhase, JobReport
from edge_schemas.wire.workers import WorkerSettings


@dataclass(frozen=True, slots=True)
class Directives:
    """Everything in an answer but the grants; repeated until the report agrees."""

    stop: tuple[StopDirective, ...] = ()
    settings: WorkerSettings | None = None
    conflict: CredentialConflict | None = None
    conflict_resolved: bool = False
    required_airflow: str | None = None

    def __bool__(self) -> bool:
        told = (self.settings, self.conflict, self.required_airflow)
        return bool(self.stop) or self.conflict_resolved or any(one is not None for one in told)

    @property
    def fingerprint(self) -> Any:
        """What makes it news. A credential conflict says when both agents last polled, which is none."""
        return (
            self.stop,
            self.settings,
            self.conflict and self.conflict.since,
            self.conflict_resolved,
            self.required_airflow,
        )


def directives(
    worker: str,
    poll: Poll,
    records: Mapping[str, JobRecord | None],
    settings: WorkerSettings,
    *,
    conflict: CredentialConflict | None = None,
    required_airflow: str | None = None,
) -> Directives:
    """What to tell a worker.

    Args:
        worker: Who reports.
        poll: Its report.
        records: Of the jobs it reports, None where there is no record. A job that is left out could not be looked up:
            nothing is said about it.
        settings: As they are now.
        conflict: What keeps this agent from getting jobs, if anything does.
        required_airflow: The centre's version of Airflow, if the worker's is too new for a job that was there for it.
    """
    stop = (_stop(worker, report, records[report.id]) for report in poll.jobs if report.id in records)
    return Directives(
        stop=tuple(directive for directive in stop if directive is not None),
        settings=settings if settings.version != poll.settings_version else None,
        conflict=None if poll.in_conflict else conflict,
        conflict_resolved=poll.in_conflict and conflict is None,
        required_airflow=required_airflow,
    )


def is_leftover(worker: str, job: str, records: Mapping[str, JobRecord | None]) -> bool:
    """Whether a message that came for this worker only says what it has long started: its ack was lost."""
    record = records.get(job)
    return record is not None and record.holder is not None and record.holder.worker == worker


def _stop(worker: str, report: JobReport, record: JobRecord | None) -> StopDirective | None:
    if record is None or record.state is JobState.ENDED:
        return StopDirective(job=report.id, reason=_why_ended(record), drop=True)
    if record.holder is not None and record.holder.worker != worker:
        return StopDirective(job=report.id, reason="another worker holds the job", drop=True)
    if record.holder is None:
        return _stop_unheld(report, record)
    if record.state is JobState.STOPPING and report.phase is not JobPhase.FINISHING:
        return StopDirective(job=report.id, reason=record.stop.reason if record.stop else "the job is to stop")
    return None


def _why_ended(record: JobRecord | None) -> str:
    why = None if record is None or record.outcome is None else record.outcome.reason
    return f"the job has ended: {why}" if why else "the job has ended"


def _stop_unheld(report: JobReport, record: JobRecord) -> StopDirective | None:
    """A job that waits may have been granted; whoever runs it nevertheless runs what was taken from it."""
    if report.phase is not JobPhase.GRANTED:
        return StopDirective(job=report.id, reason="the job was taken back while the worker was away", drop=True)
    if record.parked is not None:
        return StopDirective(job=report.id, reason="the job was put aside", drop=True)
    return None
