"""What is kept of a job's record: what decides whether its worker gets a directive, and what operators see and ask."""

from dataclasses import dataclass, field
from sys import intern

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from edge_schemas.life.model import JobState, Verdict
from edge_schemas.wire.jobs import AuxiliaryKind, JobKind, OnLost
from edge_schemas.wire.worker_report import JobPhase, JobReport

log = structlog.get_logger(__name__)

DEFAULT_WEIGHT = 1
"""Airflow's own, as the executor counts a task without a weight."""


@dataclass(frozen=True, slots=True)
class WatchedTask:
    """Which task a job runs."""

    dag_id: str
    task_id: str
    run_id: str
    try_number: int
    map_index: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended; `at` as Unix time."""

    verdict: Verdict
    reason: str | None
    at: float
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class WatchedTerms:
    """What the producer of a job asked for; see `JobTerms`. Times are Unix times."""

    kind: JobKind
    name: str
    producer: str
    priority: int
    on_lost: OnLost
    max_attempts: int
    expires_at: float | None
    group: str | None
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class WatchedJob:
    """A job by a record that may be outdated. Two are equal if they are the same to the worker. Times are Unix times.

    Attributes:
        holder: The worker that holds it.
        parked: Why it is parked.
        task: What it runs, unless it is an auxiliary job of `kind` or was submitted.
        terms: Of a job that was submitted.
        weight: The `priority_weight` of its task, or the priority of a submitted job.
        attempt: How often it was started.
        not_before: Until when it is delayed.
        releases: How often it was released.
        ending: Of a job that has ended.
    """

    state: JobState
    holder: str | None
    is_parked: bool
    id: str = field(compare=False)
    queue: str = field(compare=False)
    team: str | None = field(compare=False)
    task: WatchedTask | None = field(compare=False)
    kind: AuxiliaryKind | None = field(compare=False)
    terms: WatchedTerms | None = field(compare=False)
    weight: int = field(compare=False)
    created_at: float = field(compare=False)
    waits_since: float = field(compare=False)
    started_at: float | None = field(compare=False)
    stop_reason: str | None = field(compare=False)
    parked: str | None = field(compare=False)
    releases: int = field(compare=False)
    attempt: int = field(compare=False)
    not_before: float | None = field(compare=False)
    ending: Ending | None = field(compare=False)

    @property
    def job_kind(self) -> JobKind:
        """What it is."""
        if self.terms is not None:
            return self.terms.kind
        return JobKind.TASK if self.kind is None else JobKind(self.kind.value)


class _Part(BaseModel):
    """A part of a record with the fields that count here."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class _Holder(_Part):
    worker: str
    started_at: AwareDatetime


class _Task(_Part):
    dag_id: str
    task_id: str
    run_id: str
    try_number: int
    map_index: int = -1


class _Auxiliary(_Part):
    kind: AuxiliaryKind


class _Terms(_Part):
    kind: JobKind
    name: str
    producer: str
    priority: int = 0
    on_lost: OnLost = OnLost.FAIL
    max_attempts: int = 1
    expires_at: AwareDatetime | None = None
    group: str | None = None
    labels: dict[str, str] = {}


class _Stop(_Part):
    reason: str


class _Workload(_Part):
    ti: object = None


class _Work(_Part):
    workload: _Workload | None = None


class _Job(_Part):
    work: _Work | None = None


class _Outcome(_Part):
    verdict: Verdict
    reason: str | None = None
    exit_code: int | None = None
    ended_at: AwareDatetime


class _Record(_Part):
    state: JobState
    queue: str
    team: str | None = None
    task: _Task | None = None
    auxiliary: _Auxiliary | None = None
    terms: _Terms | None = None
    attempt: int = 0
    not_before: AwareDatetime | None = None
    job: _Job | None = None
    created_at: AwareDatetime
    waiting_again_since: AwareDatetime | None = None
    holder: _Holder | None = None
    stop: _Stop | None = None
    parked: str | None = None
    releases: tuple[_Part, ...] = ()
    outcome: _Outcome | None = None


def watched_job(job: str, value: bytes) -> WatchedJob | None:
    """The job of a record as it is stored, ended or not; None if its record can't be read."""
    try:
        record = _Record.model_validate_json(value)
    except ValidationError as error:
        log.warning("record_unreadable", job=job, errors=error.error_count())
        return None
    holder, outcome = record.holder, record.outcome
    return WatchedJob(
        state=record.state,
        holder=None if holder is None else intern(holder.worker),
        is_parked=record.parked is not None,
        id=job,
        queue=intern(record.queue),
        team=None if record.team is None else intern(record.team),
        task=None if record.task is None else _task(record.task),
        kind=None if record.auxiliary is None else record.auxiliary.kind,
        terms=None if record.terms is None else _terms(record.terms),
        weight=_weight(record),
        created_at=record.created_at.timestamp(),
        waits_since=(record.waiting_again_since or record.created_at).timestamp(),
        started_at=None if holder is None else holder.started_at.timestamp(),
        stop_reason=None if record.stop is None else record.stop.reason,
        parked=record.parked,
        releases=len(record.releases),
        attempt=record.attempt,
        not_before=None if record.not_before is None else record.not_before.timestamp(),
        ending=None if outcome is None else _ending(outcome),
    )


def _task(task: _Task) -> WatchedTask:
    """The names of DAGs, runs and tasks are shared: many jobs have the same ones."""
    names = intern(task.dag_id), intern(task.task_id), intern(task.run_id)
    return WatchedTask(*names, task.try_number, task.map_index)


def _terms(terms: _Terms) -> WatchedTerms:
    """Names and labels are shared: many jobs have the same ones."""
    return WatchedTerms(
        kind=terms.kind,
        name=intern(terms.name),
        producer=intern(terms.producer),
        priority=terms.priority,
        on_lost=terms.on_lost,
        max_attempts=terms.max_attempts,
        expires_at=None if terms.expires_at is None else terms.expires_at.timestamp(),
        group=terms.group,
        labels={intern(key): intern(value) for key, value in terms.labels.items()},
    )


def _ending(outcome: _Outcome) -> Ending:
    return Ending(outcome.verdict, outcome.reason, outcome.ended_at.timestamp(), outcome.exit_code)


def _weight(record: _Record) -> int:
    """Of the workload, which is Airflow's own: what can't be read there has the default, as for the executor."""
    if record.terms is not None:
        return record.terms.priority
    if record.task is None:
        return DEFAULT_WEIGHT
    job = record.job
    work = None if job is None else job.work
    workload = None if work is None else work.workload
    task = None if workload is None else workload.ti
    weight = task.get("priority_weight") if isinstance(task, dict) else None
    return weight if isinstance(weight, int) else DEFAULT_WEIGHT


def may_need_stop(worker: str, report: JobReport, job: WatchedJob | None) -> bool:
    """Whether `directives` makes a directive for a job, if its record is as it was watched.

    Args:
        worker: The worker that reports the job.
        report: Its report.
        job: None for a job without a record.
    """
    if job is None or job.state is JobState.ENDED:
        return True
    if job.holder is None:
        return report.phase is not JobPhase.GRANTED or job.is_parked
    if job.holder != worker:
        return True
    return job.state is JobState.STOPPING and report.phase is not JobPhase.FINISHING
