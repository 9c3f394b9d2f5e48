"""The unfinished jobs by queue, by task and by worker, as a watch of their records shows them."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from edge_broker.subjects import consumer_name
from edge_schemas.life.model import JobState
from edge_schemas.why.facts import Position, RunningJob
from edge_schemas.why.wording import task_text
from edge_schemas.wire.base import Instant
from edge_schemas.wire.jobs import AuxiliaryJob, TaskIdentity

DEFAULT_WEIGHT = 1
"""Airflow's own, as the executor counts a task without a weight."""
TaskName = tuple[str, str, str, int]
"""DAG, run, task and map index."""
_Rank = tuple[bool, int, datetime]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class _TaskOfWorkload(_Lenient):
    priority_weight: int = DEFAULT_WEIGHT


class _Workload(_Lenient):
    ti: _TaskOfWorkload = _TaskOfWorkload()


class _Work(_Lenient):
    workload: _Workload = _Workload()


class _Job(_Lenient):
    work: _Work = _Work()


class _Holder(_Lenient):
    worker: str
    started_at: Instant


class _Record(_Lenient):
    state: JobState
    queue: str
    team: str | None = None
    task: TaskIdentity | None = None
    auxiliary: AuxiliaryJob | None = None
    job: _Job | None = None
    created_at: Instant
    holder: _Holder | None = None
    parked: str | None = None


@dataclass(frozen=True, slots=True)
class _Unfinished:
    """What counts of one record.

    Attributes:
        rank: Of a job that waits and is not parked; the lowest is first.
    """

    consumer: str
    rank: _Rank | None
    task: TaskName | None
    holder: str | None
    running: RunningJob | None


class UnfinishedJobs:
    """Follows the values of records; see `RecordMirror.on_value`."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Unfinished] = {}
        self._waiting: dict[str, dict[str, _Rank]] = {}
        self._by_task: dict[TaskName, str] = {}
        self._held: dict[str, dict[str, RunningJob]] = {}
        self._running: Counter[str] = Counter()

    def apply(self, job: str, value: bytes | None) -> None:
        """Store the record of a job as it is now; a record that can't be read counts as none."""
        after = None if value is None else _parse(value)
        before = self._jobs.get(job)
        if before == after:
            return
        if before is not None:
            self._remove(job, before)
        if after is not None:
            self._add(job, after)

    def of_task(self, task: TaskName) -> str | None:
        """The unfinished job of a task instance."""
        return self._by_task.get(task)

    def running(self, consumer: str) -> int:
        """How many jobs of a queue have started and not ended."""
        return self._running[consumer]

    def held_by(self, worker: str) -> tuple[RunningJob, ...]:
        """The jobs that a worker holds."""
        return tuple(self._held.get(worker, {}).values())

    def position(self, consumer: str, job: str) -> Position | None:
        """The place of a waiting job in its queue; None if it is not known to wait."""
        line = self._waiting.get(consumer, {})
        own = line.get(job)
        if own is None:
            return None
        before = [rank for rank in line.values() if rank < own]
        return Position(len(before), sum(rank[1] < own[1] for rank in before))

    def _add(self, job: str, one: _Unfinished) -> None:
        self._jobs[job] = one
        if one.rank is not None:
            self._waiting.setdefault(one.consumer, {})[job] = one.rank
        if one.task is not None:
            self._by_task[one.task] = job
        if one.holder is not None and one.running is not None:
            self._held.setdefault(one.holder, {})[job] = one.running
            self._running[one.consumer] += 1

    def _remove(self, job: str, one: _Unfinished) -> None:
        del self._jobs[job]
        if one.rank is not None:
            _discard(self._waiting, one.consumer, job)
        if one.task is not None and self._by_task.get(one.task) == job:
            del self._by_task[one.task]
        if one.holder is not None and one.running is not None:
            _discard(self._held, one.holder, job)
            self._running[one.consumer] -= 1
            if not self._running[one.consumer]:
                del self._running[one.consumer]


def _discard(table: dict[str, dict[str, RunningJob]] | dict[str, dict[str, _Rank]], key: str, job: str) -> None:
    row = table[key]
    del row[job]
    if not row:
        del table[key]


def _parse(value: bytes) -> _Unfinished | None:
    try:
        record = _Record.model_validate_json(value)
    except ValidationError:
        return None  # the mirror of records has logged it
    if record.state is JobState.ENDED:
        return None
    task, holder = record.task, record.holder
    waits = record.state is JobState.WAITING and record.parked is None
    weight = DEFAULT_WEIGHT if record.job is None else record.job.work.workload.ti.priority_weight
    name = "a callback or connection test" if task is None else task_text(task)
    return _Unfinished(
        consumer_name(record.team, record.queue),
        (record.auxiliary is None, -weight, record.created_at) if waits else None,
        None if task is None else (task.dag_id, task.run_id, task.task_id, task.map_index),
        None if holder is None else holder.worker,
        None if holder is None else RunningJob(name, holder.started_at),
    )
