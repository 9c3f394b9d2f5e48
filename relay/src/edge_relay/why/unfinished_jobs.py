"""What the unfinished jobs say about one of them, by one pass over the mirror of their records.

Nothing is kept between two answers: people ask, and a pass is short: see the benchmark `scale.lists`.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from edge_relay.dispatch.state.watched_job import WatchedJob
from edge_relay.fleet.jobs.rows import task_name
from edge_relay.fleet.lists.slices import in_slices
from edge_schemas.life.model import JobState
from edge_schemas.why.facts import Position, RunningJob
from edge_schemas.why.task_query import TaskQuery
from edge_schemas.why.wording import clean


@dataclass(frozen=True, slots=True)
class QueueJobs:
    """The jobs of a queue, and what its workers hold, of this queue or another.

    Attributes:
        running: Jobs of the queue that have started and not ended.
        position: The place of the job among those of its kind in its queue; None if it is not known to wait.
        group_ahead: The name of the earliest job of its group, unless that is the job itself.
        held: The jobs of each of the workers.
    """

    running: int
    position: Position | None
    held: dict[str, tuple[RunningJob, ...]] = field(default_factory=dict)
    group_ahead: str | None = None


async def read_queue(
    jobs: Iterable[WatchedJob], own: WatchedJob | None, *, team: str | None, queue: str, workers: Collection[str]
) -> QueueJobs:
    """The jobs of a queue as one of its waiting jobs meets them.

    Args:
        jobs: All unfinished jobs.
        own: The waiting job, if its record has been watched.
        team: Of the queue.
        queue: Its name.
        workers: Whose jobs are wanted.
    """
    rank = None if own is None or not _waits(own) else _rank(own)
    kind = None if own is None else own.job_kind
    running = ahead = heavier = 0
    held: dict[str, list[RunningJob]] = defaultdict(list)
    group = None if own is None or own.terms is None else own.terms.group
    first = own
    async for some in in_slices(jobs):
        for job in some:
            is_here = job.queue == queue and job.team == team
            if group is not None and is_here and first is not None and _is_ahead(job, first, group):
                first = job
            if job.holder is not None:
                running += is_here
                if job.holder in workers:
                    held[job.holder].append(_running(job))
            elif is_here and job.job_kind is kind and rank is not None and _waits(job) and (other := _rank(job)) < rank:
                ahead += 1
                heavier += other[0] < rank[0]
    position = None if rank is None else Position(ahead, heavier)
    ahead_in_group = None if first is None or first is own else task_name(first)
    return QueueJobs(running, position, {worker: tuple(found) for worker, found in held.items()}, ahead_in_group)


async def job_of_task(jobs: Iterable[WatchedJob], query: TaskQuery) -> str | None:
    """The unfinished job of a task instance; the newest, should it have several."""
    found: WatchedJob | None = None
    async for some in in_slices(jobs):
        for job in some:
            if _runs(job, query) and (found is None or job.created_at > found.created_at):
                found = job
    return None if found is None else found.id


def _runs(job: WatchedJob, query: TaskQuery) -> bool:
    task = job.task
    return (
        task is not None
        and task.task_id == query.task
        and task.map_index == query.map_index
        and task.run_id == query.run
        and task.dag_id == query.dag
    )


def _is_ahead(job: WatchedJob, of: WatchedJob, group: str) -> bool:
    """Whether a job of the group comes before another one; a parked job holds up none."""
    is_in_group = job.terms is not None and job.terms.group == group and not job.is_parked
    return is_in_group and (job.created_at, job.id) < (of.created_at, of.id)


def _waits(job: WatchedJob) -> bool:
    return job.state is JobState.WAITING and not job.is_parked


def _rank(job: WatchedJob) -> tuple[int, float]:
    """The lowest of a kind is first, as for the executor."""
    return -job.weight, job.created_at


def _running(job: WatchedJob) -> RunningJob:
    is_auxiliary = job.task is None and job.terms is None
    name = "a callback or connection test" if is_auxiliary else clean(task_name(job))
    return RunningJob(name, datetime.fromtimestamp(job.started_at or job.created_at, UTC))
