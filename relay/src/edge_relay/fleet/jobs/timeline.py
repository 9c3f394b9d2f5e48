"""The timeline of a job, from its record."""

from collections.abc import Iterator
from urllib.parse import quote

from edge_schemas.admin.rows import JobMoment
from edge_schemas.life.model import JobRecord, JobState


def timeline(record: JobRecord) -> tuple[JobMoment, ...]:
    """What happened to a job, the oldest point first."""
    return tuple(sorted(_moments(record), key=lambda moment: moment.at))


def _moments(record: JobRecord) -> Iterator[JobMoment]:
    terms = record.terms
    yield JobMoment(at=record.created_at, what="created" if terms is None else f"submitted by {terms.producer}")
    for note in record.releases:
        who = "released" if note.worker else "its message could not be read"
        if note.attempt is not None:
            who = f"attempt {note.attempt} ended"
        yield JobMoment(at=note.at, what=f"{who}: {note.reason}", worker=note.worker)
    redriven = record.redriven
    if redriven is not None:
        yield JobMoment(at=redriven.at, what=redriven.reason)
    if record.waiting_again_since is not None and (redriven is None or redriven.at != record.waiting_again_since):
        yield JobMoment(at=record.waiting_again_since, what="waits again")
    if record.parked is not None:
        at = record.releases[-1].at if record.releases else record.waits_since
        yield JobMoment(at=at, what=f"parked: {record.parked}")
    if record.holder is not None:
        holder = record.holder
        what = "started" if terms is None else f"started, attempt {record.attempt} of {terms.max_attempts}"
        yield JobMoment(at=holder.started_at, what=what, worker=holder.worker)
    if record.user_code is not None:
        code = record.user_code
        worker = None if record.holder is None else record.holder.worker
        yield JobMoment(at=code.at, what=f"user code runs on {code.hostname}, pid {code.pid}", worker=worker)
    if record.stop is not None:
        yield JobMoment(at=record.stop.at, what=f"stop requested: {record.stop.reason}")
    if record.outcome is not None and record.state is JobState.ENDED:
        outcome = record.outcome
        what = f"ended: {outcome.verdict}" + (f", {outcome.reason}" if outcome.reason else "")
        yield JobMoment(at=outcome.ended_at, what=what)


def airflow_link(base: str | None, record: JobRecord) -> str | None:
    """The page of the job's task instance in Airflow's UI; None for other jobs, or if the address is not set."""
    task = record.task
    if base is None or task is None:
        return None
    path = f"dags/{_part(task.dag_id)}/runs/{_part(task.run_id)}/tasks/{_part(task.task_id)}"
    mapped = f"/mapped/{task.map_index}" if task.map_index >= 0 else ""
    return f"{base.rstrip('/')}/{path}{mapped}?try_number={task.try_number}"


def _part(name: str) -> str:
    return quote(name, safe="")
