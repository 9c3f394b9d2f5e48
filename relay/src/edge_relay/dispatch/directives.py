"""The directives in the answer to a poll, computed from its report and the state. No clock, no network, no logging."""

from collections.abc import Mapping
from dataclasses import dataclass

from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.polls import Poll, StopDirective
from edge_schemas.wire.worker_entry import CredentialConflict
from edge_schemas.wire.worker_report import JobPhase, JobReport
from edge_schemas.wire.workers import WorkerSettings


@dataclass(frozen=True, slots=True)
class Directives:
    """Everything in an answer except the grants; sent again until the report agrees."""

    stop: tuple[StopDirective, ...] = ()
    settings: WorkerSettings | None = None
    conflict: CredentialConflict | None = None
    conflict_resolved: bool = False
    required_airflow: str | None = None

    def __bool__(self) -> bool:
        return (
            bool(self.stop)
            or self.conflict_resolved
            or self.settings is not None
            or self.conflict is not None
            or self.required_airflow is not None
        )

    @property
    def fingerprint(self) -> tuple[object, ...]:
        """What makes it new to the worker. Both agents' last polls in a credential conflict do not."""
        return (
            self.stop,
            self.settings,
            self.conflict and self.conflict.since,
            self.conflict_resolved,
            self.required_airflow,
        )


NOTHING = Directives()


def directives(
    worker: str,
    poll: Poll,
    records: Mapping[str, JobRecord | None],
    settings: WorkerSettings,
    *,
    conflict: CredentialConflict | None = None,
    required_airflow: str | None = None,
) -> Directives:
    """The directives for a worker.

    Args:
        worker: The worker that reports.
        poll: Its report.
        records: Of jobs in the report, None where there is no record. A job that is missing here needs no directive, or
            its record has not been read yet.
        settings: The worker's current settings.
        conflict: What keeps this agent from getting jobs, if anything does.
        required_airflow: The centre's version of Airflow, if the worker's is too new for a job that waited for it.
    """
    stop = (_stop(worker, report, records[report.id]) for report in poll.jobs if report.id in records)
    return Directives(
        stop=tuple(directive for directive in stop if directive is not None),
        settings=settings if settings.version != poll.settings_version else None,
        conflict=None if poll.in_conflict else conflict,
        conflict_resolved=poll.in_conflict and conflict is None,
        required_airflow=required_airflow,
    )


def is_start_repeated(worker: str, record: JobRecord | None) -> bool:
    """Whether the message of a job was delivered again although this worker has started the job: its ack was lost."""
    return record is not None and record.holder is not None and record.holder.worker == worker


def _stop(worker: str, report: JobReport, record: JobRecord | None) -> StopDirective | None:
    if record is None or record.state is JobState.ENDED:
        return StopDirective(job=report.id, reason=_why_ended(record), drop=True)
    if record.holder is not None and record.holder.worker != worker:
        return StopDirective(job=report.id, reason="another worker holds the job", drop=True)
    if record.holder is None:
        return _stop_without_holder(report, record)
    if record.state is JobState.STOPPING and report.phase is not JobPhase.FINISHING:
        return StopDirective(job=report.id, reason=record.stop.reason if record.stop else "the job is to stop")
    return None


def _why_ended(record: JobRecord | None) -> str:
    why = None if record is None or record.outcome is None else record.outcome.reason
    return f"the job has ended: {why}" if why else "the job has ended"


def _stop_without_holder(report: JobReport, record: JobRecord) -> StopDirective | None:
    """A waiting job may have been granted, but a worker that runs it has lost it meanwhile."""
    if report.phase is not JobPhase.GRANTED:
        return StopDirective(
            job=report.id, reason="the centre gave the job up while the worker had no contact", drop=True
        )
    if record.parked is not None:
        return StopDirective(job=report.id, reason="the job is parked", drop=True)
    return None
