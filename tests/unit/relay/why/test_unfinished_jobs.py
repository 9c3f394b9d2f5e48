"""The pass over the unfinished jobs that an answer makes."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from edge_relay.dispatch.state.watched_job import DEFAULT_WEIGHT, WatchedJob, watched_job
from edge_relay.fleet.lists import slices
from edge_relay.why.unfinished_jobs import QueueJobs, job_of_task, read_queue
from edge_schemas.life.events import Start
from edge_schemas.life.model import JobRecord, new_record
from edge_schemas.life.transition import transition
from edge_schemas.why.facts import Position
from edge_schemas.why.task_query import TaskQuery
from support.relay.jobs import make_auxiliary_job, make_job

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def record(queue: str = "q", *, after_s: float = 0, weight: object = 1, auxiliary: bool = False) -> JobRecord:
    job = make_auxiliary_job(queue) if auxiliary else make_job(queue)
    found = new_record(job).model_copy(update={"created_at": NOW + timedelta(seconds=after_s)})
    value = found.model_dump(mode="json")
    value["job"]["work"]["workload"]["ti"] = {"priority_weight": weight}
    return JobRecord.model_validate(value)


def watched(one: JobRecord) -> WatchedJob:
    found = watched_job(one.id, one.model_dump_json().encode())
    assert found is not None
    return found


def started(one: JobRecord, worker: str) -> WatchedJob:
    return watched(transition(one, Start(worker=worker, incarnation=1, at=NOW)))


async def read(jobs: list[WatchedJob], own: WatchedJob | None, *workers: str) -> QueueJobs:
    return await read_queue(jobs, own, team=None, queue="q", workers=workers)


async def test_the_place_of_a_job_is_the_executors() -> None:
    """Heavier ones, then earlier ones; no job waits for one of another kind."""
    own = watched(record(after_s=10, weight=5))
    before = [watched(record(after_s=99, weight=6)), watched(record(after_s=9, weight=5))]
    behind = [watched(record(after_s=11, weight=5)), watched(record(weight=4)), watched(record(auxiliary=True))]
    elsewhere = [watched(record("other", weight=9))]
    found = await read([*behind, *elsewhere, own, *before], own)
    assert (found.position, found.running) == (Position(ahead=2, heavier=1), 0)


async def test_parked_and_started_jobs_are_not_ahead() -> None:
    own = watched(record(after_s=10))
    parked = watched(record().model_copy(update={"parked": "released too often"}))
    found = await read([own, parked, started(record(), "w")], own)
    assert (found.position, found.running) == (Position(ahead=0), 1)
    assert (await read([own, parked], parked)).position is None
    assert (await read([own, parked], None)).position is None


async def test_what_workers_hold_counts_in_every_queue() -> None:
    jobs = [started(record("other"), "w"), started(record(), "w"), started(record(), "stranger")]
    found = await read(jobs, None, "w", "idle")
    assert found.running == 2
    assert {name: len(held) for name, held in found.held.items()} == {"w": 2}
    assert {held.name for held in found.held["w"]} == {"d.t"}


async def test_the_newest_job_of_a_task_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Across slices."""
    monkeypatch.setattr(slices, "SLICE", 2)
    jobs = [watched(record(after_s=at)) for at in (5, 9, 7)]
    assert await job_of_task(jobs, TaskQuery(dag="d", run="r", task="t")) == jobs[1].id
    assert await job_of_task(jobs, TaskQuery(dag="d", run="r", task="t", map_index=0)) is None
    assert await job_of_task([], TaskQuery(dag="d", run="r", task="t")) is None


@pytest.mark.parametrize(
    "workload",
    [{}, *({"ti": task} for task in (None, "x", {}, {"priority_weight": "heavy"}, {"priority_weight": None}))],
)
def test_a_workload_of_another_shape_has_the_default_weight(workload: dict[str, Any]) -> None:
    """The record must stay readable: directives depend on it."""
    one = record()
    value = one.model_dump(mode="json")
    value["job"]["work"]["workload"] = workload
    found = watched_job(one.id, json.dumps(value).encode())
    assert found is not None
    assert found.weight == DEFAULT_WEIGHT
