"""The rows of the list of jobs."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from edge_relay.dispatch.state.watched_job import WatchedJob
from edge_relay.fleet.lists.pages import Column, Order
from edge_relay.fleet.lists.slices import in_slices
from edge_schemas.admin.rows import JobRow
from edge_schemas.admin.view_queries import JobQuery
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.wire.jobs import JobKind

SiteOf = Callable[[str], str | None]
"""The site of a worker."""
IsVisible = Callable[[str | None, str, str | None], bool]
"""Whether an operator may see a job, by its team, its queue and its holder."""


def task_name(job: WatchedJob) -> str:
    """`dag.task` with map index, what an auxiliary job is, or the name of a submitted job."""
    if job.terms is not None:
        return job.terms.name
    if job.task is None:
        return "-" if job.kind is None else job.kind.value
    return _name(job.task.dag_id, job.task.task_id, job.task.map_index)


JOB_ORDER: Order[WatchedJob] = Order(
    {
        "created_at": Column(lambda job: job.created_at),
        "waits_since": Column(lambda job: job.waits_since if job.state is JobState.WAITING else None),
        "started_at": Column(lambda job: job.started_at),
        "ended_at": Column(lambda job: None if job.ending is None else job.ending.at),
        "queue": Column(lambda job: job.queue, is_text=True),
        "state": Column(lambda job: job.state.value, is_text=True),
        "task": Column(task_name, is_text=True),
        "worker": Column(lambda job: job.holder, is_text=True),
    },
    lambda job: job.id,
)


def matches(job: WatchedJob, query: JobQuery, text: str, site_of: SiteOf) -> bool:
    """Whether a job matches all that is given; `text` is `query.text` in lower case."""
    task = job.task
    return (
        (query.queue is None or job.queue == query.queue)
        and (query.state is None or job.state is query.state)
        and (query.worker is None or job.holder == query.worker)
        and (query.parked is None or job.is_parked is query.parked)
        and (query.dag_id is None or (task is not None and task.dag_id == query.dag_id))
        and (query.run_id is None or (task is not None and task.run_id == query.run_id))
        and (query.site is None or (job.holder is not None and site_of(job.holder) == query.site))
        and (not text or text in job.id or text in task_name(job).lower() or _is_labelled(job, text))
    )


def _is_labelled(job: WatchedJob, text: str) -> bool:
    """Whether a label is exactly this text, as `key=value`."""
    return job.terms is not None and any(f"{key}={value}".lower() == text for key, value in job.terms.labels.items())


async def matching_jobs(
    jobs: Iterable[WatchedJob], query: JobQuery, site_of: SiteOf, is_visible: IsVisible
) -> list[WatchedJob]:
    """The jobs that match all that is given. Polls do not wait for many jobs."""
    text = (query.text or "").lower()
    found: list[WatchedJob] = []
    async for some in in_slices(jobs):
        found += [
            job for job in some if matches(job, query, text, site_of) and is_visible(job.team, job.queue, job.holder)
        ]
    return found


def job_row(job: WatchedJob, site_of: SiteOf) -> JobRow:
    """The row of a job."""
    task, ending = job.task, job.ending
    return JobRow(
        job=job.id,
        queue=job.queue,
        team=job.team,
        state=job.state,
        task=task_name(job),
        dag_id=None if task is None else task.dag_id,
        run_id=None if task is None else task.run_id,
        task_id=None if task is None else task.task_id,
        map_index=None if task is None else task.map_index,
        try_number=None if task is None else task.try_number,
        kind=job_kind(job),
        **_of_terms(job),
        created_at=_moment(job.created_at),
        waits_since=_moment(job.waits_since) if job.state is JobState.WAITING else None,
        worker=job.holder,
        site=None if job.holder is None else site_of(job.holder),
        started_at=None if job.started_at is None else _moment(job.started_at),
        stop_reason=job.stop_reason,
        parked=job.parked,
        releases=job.releases,
        verdict=None if ending is None else ending.verdict,
        reason=None if ending is None else ending.reason,
        ended_at=None if ending is None else _moment(ending.at),
    )


def job_kind(job: WatchedJob) -> JobKind | None:
    """What a job is, unless it is a task."""
    if job.terms is not None:
        return job.terms.kind
    return None if job.kind is None else JobKind(job.kind.value)


def _of_terms(job: WatchedJob) -> dict[str, Any]:
    """What a row shows of a submitted job besides."""
    terms = job.terms
    if terms is None:
        return {}
    return {
        "producer": terms.producer,
        "labels": terms.labels,
        "group": terms.group,
        "priority": terms.priority,
        "attempt": job.attempt,
        "max_attempts": terms.max_attempts,
        "not_before": None if job.not_before is None else _moment(job.not_before),
    }


def record_row(record: JobRecord, site_of: SiteOf) -> JobRow:
    """The row of a job by its whole record."""
    task, holder, outcome = record.task, record.holder, record.outcome
    kind, terms = None if record.kind is JobKind.TASK else record.kind, record.terms
    other = terms.name if terms is not None else "-" if kind is None else kind.value
    submitted: dict[str, Any] = {}
    if terms is not None:
        shared = {"producer", "labels", "group", "priority", "max_attempts"}
        submitted = terms.model_dump(include=shared) | {"attempt": record.attempt, "not_before": record.not_before}
    return JobRow(
        job=record.id,
        queue=record.queue,
        team=record.team,
        state=record.state,
        task=other if task is None else _name(task.dag_id, task.task_id, task.map_index),
        dag_id=None if task is None else task.dag_id,
        run_id=None if task is None else task.run_id,
        task_id=None if task is None else task.task_id,
        map_index=None if task is None else task.map_index,
        try_number=None if task is None else task.try_number,
        kind=kind,
        **submitted,
        created_at=record.created_at,
        waits_since=record.waits_since if record.state is JobState.WAITING else None,
        worker=None if holder is None else holder.worker,
        site=None if holder is None else site_of(holder.worker),
        started_at=None if holder is None else holder.started_at,
        stop_reason=None if record.stop is None else record.stop.reason,
        parked=record.parked,
        releases=len(record.releases),
        verdict=None if outcome is None else outcome.verdict,
        reason=None if outcome is None else outcome.reason,
        ended_at=None if outcome is None else outcome.ended_at,
    )


def _name(dag_id: str, task_id: str, map_index: int) -> str:
    return f"{dag_id}.{task_id}" + (f"[{map_index}]" if map_index >= 0 else "")


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
