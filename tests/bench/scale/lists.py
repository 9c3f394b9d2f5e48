"""What a page of each list costs a replica with many workers and many unfinished jobs."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel

from bench.figures import Row
from edge_relay.fleet.job_views import JobViews
from edge_relay.fleet.overview import overview
from edge_relay.parts.build import Parts
from edge_relay.why.unfinished_jobs import job_of_task, read_queue
from edge_relay.workers.enroll_command import EnrollCommand
from edge_schemas.admin.access import AccessScope
from edge_schemas.admin.view_queries import JobQuery, QueueQuery, SiteQuery, WorkerQuery
from edge_schemas.why.task_query import TaskQuery
from support.relay.crowd import QUEUES, access_of, entry_of, fill
from support.relay.edge import running_edge

WORKERS, JOBS = 10_000, 100_000
POLLS_BETWEEN = 400
"""Two seconds' polls of these workers, if each polls every 50 s."""
REPEATS = 5
EVERYTHING = AccessScope()


async def measure(directory: Path) -> list[Row]:
    """One replica in this process, filled as its watches would fill it."""
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    async with running_edge(directory) as edge:
        parts = edge.relays[0].parts
        await parts.views.sources.ready()
        began = time.process_time()
        await fill(parts, workers=WORKERS, jobs=JOBS)
        filled_s = time.process_time() - began
        jobs = JobViews(parts.views, parts.records, None)
        views = parts.views
        calls: dict[str, Callable[[], Awaitable[BaseModel]]] = {
            "100 workers": lambda: views.workers(WorkerQuery(), EVERYTHING),
            "100 workers, sorted by last poll": lambda: views.workers(WorkerQuery(sort="-last_poll_at"), EVERYTHING),
            "100 workers, with a text": lambda: views.workers(WorkerQuery(text="site-7"), EVERYTHING),
            "1,000 workers": lambda: views.workers(WorkerQuery(limit=1000), EVERYTHING),
            "sites": lambda: views.sites(SiteQuery(), EVERYTHING),
            "queues": lambda: views.queues(QueueQuery(), EVERYTHING),
            "100 jobs, sorted by wait": lambda: jobs.jobs(JobQuery(sort="waits_since"), EVERYTHING),
            "100 jobs of a queue": lambda: jobs.jobs(JobQuery(queue="q7"), EVERYTHING),
            "overview": lambda: overview(views, EVERYTHING, EnrollCommand()),
        }
        rows: list[Row] = [("put all of them into memory, each", f"{filled_s / (WORKERS + JOBS) * 1e6:.0f} µs of CPU")]
        first_s = await _cpu(calls["100 workers"])
        rows.append(("first page of workers, all entries parsed", f"{first_s * 1000:.0f} ms of CPU"))
        for name, call in calls.items():
            rows.append((f"{name}, after two seconds' polls", await _typical(parts, call)))
        rows += await _passes(parts)
        began = time.process_time()
        for _ in range(10):
            parts.outages.check()
        rows.append(("check for outages, every 2 s", f"{(time.process_time() - began) * 100:.1f} ms of CPU"))
        return rows


async def _passes(parts: Parts) -> list[Row]:
    """What an answer to "why is it queued" costs besides its reads."""
    own = next(iter(parts.mirror.jobs()))
    serving = {access_of(number).worker for number in range(WORKERS // QUEUES)}
    nobody = TaskQuery(dag="d", run="r", task="unknown")
    began = time.process_time()
    for _ in range(REPEATS):
        await read_queue(parts.mirror.jobs(), own, team=own.team, queue=own.queue, workers=serving)
    queue_s = time.process_time() - began
    began = time.process_time()
    for _ in range(REPEATS):
        await job_of_task(parts.mirror.jobs(), nobody)
    task_s = time.process_time() - began
    return [
        ("why a job waits: place in its queue, jobs of its workers", f"{queue_s / REPEATS * 1000:.0f} ms of CPU"),
        ("why a task waits: its job by its name", f"{task_s / REPEATS * 1000:.0f} ms of CPU"),
    ]


async def _typical(parts: Parts, call: Callable[[], Awaitable[BaseModel]]) -> str:
    """The median of some calls, each after polls have arrived and what was cached is too old."""
    found = []
    for repeat in range(REPEATS):
        for number in range(repeat * POLLS_BETWEEN, (repeat + 1) * POLLS_BETWEEN):
            access = access_of(number % WORKERS)
            parts.exports.fleet.apply(access.worker, entry_of(access, at=datetime.now(UTC)))
        parts.views.index._current.forget()
        parts.views._counts.forget()
        found.append(await _cpu(call))
    return f"{sorted(found)[REPEATS // 2] * 1000:.0f} ms of CPU"


async def _cpu(call: Callable[[], Awaitable[BaseModel]]) -> float:
    began = time.process_time()
    (await call()).model_dump_json(exclude_none=True)
    return time.process_time() - began
