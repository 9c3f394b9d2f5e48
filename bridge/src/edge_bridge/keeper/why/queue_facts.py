"""The situation of each queue with waiting jobs, from the keeper's memory. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from edge_bridge.keeper.why.desired_view import DesiredView
from edge_schemas.admin.desired import strictest
from edge_schemas.life.agents import is_offline
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.why.facts import QueueFacts, RunningJob, ServingWorker, Situation
from edge_schemas.why.wording import task_text
from edge_schemas.wire.worker_entry import WorkerEntry
from edge_schemas.wire.worker_report import JobPhase
from edge_schemas.wire.workers import WorkerState

Queue = tuple[str | None, str]
"""Team and name."""


@dataclass(slots=True)
class Jobs:
    """The unfinished jobs, counted once for all queues."""

    waiting: Counter[Queue] = field(default_factory=Counter)
    running: Counter[Queue] = field(default_factory=Counter)
    held: defaultdict[str, list[RunningJob]] = field(default_factory=lambda: defaultdict(list))


def count_jobs(records: Iterable[JobRecord]) -> Jobs:
    """Count the jobs by queue and by holder."""
    jobs = Jobs()
    for record in records:
        queue = (record.team, record.queue)
        if record.state is JobState.WAITING:
            jobs.waiting[queue] += record.parked is None
            continue
        jobs.running[queue] += 1
        if record.holder is not None:
            jobs.held[record.holder.worker].append(RunningJob(_name(record), record.holder.started_at))
    return jobs


def _name(record: JobRecord) -> str:
    if record.terms is not None:
        return record.terms.name
    return task_text(record.task) if record.task is not None else "a callback or connection test"


def situation(
    queue: Queue, entries: Iterable[WorkerEntry], jobs: Jobs, desired: DesiredView, now: datetime
) -> Situation:
    """The situation of one queue.

    Args:
        queue: Team and name.
        entries: The last polls of all workers.
        jobs: All unfinished jobs.
        desired: What operators have set.
        now: By the clock of the relays, which have dated the polls.
    """
    team, name = queue
    serving = []
    for entry in entries:
        queues = desired.queues_of(entry.worker) or entry.queues or ()
        if entry.team == team and name in queues:
            serving.append(_worker(entry, jobs, desired, now))
    facts = QueueFacts(desired=desired.queue(team, name), running=jobs.running[queue], waiting=jobs.waiting[queue])
    return Situation(tuple(serving), facts)


def _worker(entry: WorkerEntry, jobs: Jobs, desired: DesiredView, now: datetime) -> ServingWorker:
    own, of_site = desired.orders(entry.worker, entry.site)
    order = strictest((own, of_site), now)
    return ServingWorker(
        entry.worker,
        entry.site,
        _state(entry, now),
        order,
        order is not None and order is not own,
        slots=entry.slots,
        free=entry.free,
        last_poll_at=entry.agent.last_poll_at,
        no_jobs_reason=entry.no_jobs_reason,
        conflict_since=None if entry.conflict is None else entry.conflict.since,
        airflow=entry.versions.airflow,
        auxiliary=entry.auxiliary,
        kinds=entry.kinds,
        running=tuple(jobs.held.get(entry.worker, ())),
        granted=frozenset(job.id for job in entry.jobs if job.phase is JobPhase.GRANTED),
    )


def _state(entry: WorkerEntry, now: datetime) -> WorkerState:
    if entry.conflict is not None:
        return WorkerState.CONFLICT
    if is_offline(entry, now):
        return WorkerState.OFFLINE
    return WorkerState.DRAINING if entry.draining else WorkerState.ONLINE
