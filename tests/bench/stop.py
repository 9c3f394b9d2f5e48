"""How soon a task that is no longer wanted gets its signal, and how soon it is gone with all it started.

A whole system; each task has a child, and neither heeds SIGTERM, so that each runs into the end of the grace. The tasks
write down themselves when the signal comes.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TypeAlias
from urllib.parse import quote

import aiohttp

from bench.figures import Row, percentile
from edge_schemas.wire.routes import ADMIN_JOB_ACTIONS
from faults.chaos.airflow_db import AirflowDatabase
from faults.chaos.ledger import Instance, Ledger, Life, parse
from local.system.system import LocalSystem, stop_completely
from support.nats.server import eventually
from support.network.link import Cut, Link

DAGS = Path(__file__).parents[1] / "faults" / "dags"
TASKS = 24
PACE_S = 0.5
CUTS = 4
CUT_S = 10.0
GRACE_S = 5.0
STARTS_WITHIN_S = 240.0

Wish: TypeAlias = "Callable[[Run, Life], Awaitable[float]]"
"""Lets Airflow want a task no longer; returns the moment from which the signal's delay counts."""


@dataclass
class Run:
    """A run whose tasks all run.

    Attributes:
        terms: When the first try of each task got its signal.
    """

    system: LocalSystem
    dag: str
    run: str
    ledger: Ledger
    lives: list[Life]
    terms: dict[Instance, float] = field(default_factory=dict)

    @property
    def airflow(self) -> AirflowDatabase:
        """The centre's database."""
        return AirflowDatabase(self.system.airflow.directory / "airflow.db")

    @property
    def path(self) -> str:
        """Of the run in Airflow's API."""
        return f"dags/{self.dag}/dagRuns/{quote(self.run, safe='')}"

    async def follow(self) -> None:
        """Keep `terms` up to date, until cancelled.

        Reads only what is new, and parses next to nothing of it: the link runs in the same loop.
        """
        read = 0
        while True:
            with self.ledger.path.open("rb") as file:
                file.seek(read)
                whole = file.read().rpartition(b"\n")[0]
            read += len(whole) + 1 if whole else 0
            for text in whole.splitlines():
                if b'"term"' in text:
                    line = parse(text)
                    self.terms.setdefault(line.instance, line.time)
            await asyncio.sleep(0.02)


@dataclass
class Delays:
    """Seconds from the wish to the signal, and from the signal to the end of the last process."""

    signal: list[float] = field(default_factory=list)
    gone: list[float] = field(default_factory=list)

    def rows(self, what: str) -> list[Row]:
        """For the table."""
        return [
            (f"{what} → SIGTERM at the task, median / p95 of {len(self.signal)}", _seconds(self.signal)),
            (f"{what}: SIGTERM → process tree gone (grace {GRACE_S:g} s), median / longest", _longest(self.gone)),
        ]


async def measure(directory: Path) -> tuple[str, list[Row]]:
    """The section of the page."""
    system = LocalSystem(directory / "system", dags=[DAGS])
    rows: list[Row] = []
    try:
        await system.start()
        async with Link.to(system.relay_facts.url) as link:
            url = f"https://127.0.0.1:{link.port}"
            await system.add_worker("stop", ["stop"], relay_url=url, slots=TASKS)
            for what, wish in (("mark failed", _mark_failed), ("clear", _clear), ("operator's cancel", _cancel)):
                rows += (await _one_by_one(system, wish)).rows(what)
            rows += (await _timed_out(system)).rows("DAG run timed out")
            reached = await _after_cuts(system, link)
            rows.append((f"link back after a cut → SIGTERM, median / p95 of {len(reached)}", _seconds(reached)))
    finally:
        await stop_completely(system)
    return "Stopping a task", rows


async def _one_by_one(system: LocalSystem, wish: Wish) -> Delays:
    delays = Delays()
    async with _running(system, "stoppable") as run, asyncio.TaskGroup() as watching:
        for life in run.lives:
            since = await wish(run, life)
            watching.create_task(_watch(run, life, since, delays))
            await asyncio.sleep(PACE_S)
    return delays


async def _timed_out(system: LocalSystem) -> Delays:
    """From the moment at which Airflow's database says that the run has ended."""
    delays = Delays()
    async with _running(system, "stoppable_timeout") as run, asyncio.TaskGroup() as watching:
        since = await eventually(lambda: run.airflow.run_ended(run.dag, run.run), timeout_s=120, what="it times out")
        assert since is not None
        for life in run.lives:
            watching.create_task(_watch(run, life, since, delays))
    return delays


async def _after_cuts(system: LocalSystem, link: Link) -> list[float]:
    """Several tasks are marked failed during each cut, half of which are black holes."""
    delays = Delays()
    async with _running(system, "stoppable") as run:
        share = TASKS // CUTS
        for number in range(CUTS):
            lives = run.lives[number * share : (number + 1) * share]
            await link.cut((Cut.BLACK_HOLE, Cut.REFUSE)[number % 2])
            for life in lives:
                await _mark_failed(run, life)
            await asyncio.sleep(CUT_S)
            await link.restore()
            since = time.time()
            async with asyncio.TaskGroup() as watching:
                for life in lives:
                    watching.create_task(_watch(run, life, since, delays))
    return delays.signal


@asynccontextmanager
async def _running(system: LocalSystem, dag: str) -> AsyncIterator[Run]:
    """A run whose tasks all run; ended with the block."""
    await eventually(lambda: system.api.has_dag(dag), timeout_s=60, what=f"{dag} is parsed")
    ledger = Ledger(system.directory / f"{dag}-{time.time_ns()}.ledger")
    run = await system.api.trigger(dag, ledger.conf())

    async def all_run() -> bool:
        await asyncio.sleep(0.5)  # a whole ledger is read
        return sum("begin" in life.events for life in ledger.lives(run)) == TASKS

    await eventually(all_run, timeout_s=STARTS_WITHIN_S, what="all tasks run")
    found = Run(system, dag, run, ledger, ledger.lives(run))
    following = asyncio.create_task(found.follow(), name="ledger")
    try:
        yield found
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await eventually(lambda: _ended(found), timeout_s=90, what="all are gone")


async def _ended(run: Run) -> bool:
    """Said again and again: a task that was cleared may be queued after its run was marked."""
    await run.system.api.patch(run.path, {"state": "failed"})
    await asyncio.sleep(1)
    return not any(_lives(life) for life in run.ledger.lives(run.run))


async def _watch(run: Run, life: Life, since: float, delays: Delays) -> None:
    await eventually(lambda: life.instance in run.terms, timeout_s=60, what="the signal comes")
    term = run.terms[life.instance]
    delays.signal.append(term - since)
    await eventually(lambda: not _lives(life), timeout_s=60, what="the processes go")
    delays.gone.append(time.time() - term)


async def _mark_failed(run: Run, life: Life) -> float:
    since = time.time()
    instance = life.instance
    await run.system.api.set_state(instance.dag, instance.run, instance.task, "failed", instance.map_index)
    return since


async def _clear(run: Run, life: Life) -> float:
    since = time.time()
    tasks = [[life.instance.task, life.instance.map_index]]
    order = {"dag_run_id": run.run, "task_ids": tasks, "dry_run": False, "only_failed": False, "reset_dag_runs": False}
    await run.system.api.post(f"dags/{run.dag}/clearTaskInstances", order)
    return since


async def _cancel(run: Run, life: Life) -> float:
    job = run.airflow.dispatches(run.dag, run.run)[life.instance]
    facts = run.system.relay_facts
    headers = {"Authorization": f"Bearer {facts.access_token_file.read_text().strip()}"}
    url = facts.operator_url + ADMIN_JOB_ACTIONS
    order = {"action": {"do": "cancel"}, "jobs": [job], "reason": "a benchmark"}
    since = time.time()
    async with (
        aiohttp.ClientSession(raise_for_status=True) as session,
        session.post(url, json=order, headers=headers),
    ):
        return since


def _lives(life: Life) -> bool:
    """Whether the task's process or its child is there."""
    begin = next((line for line in life.lines if line.event == "begin"), None)
    pids = [life.pid] if begin is None else [life.pid, begin.more["child"]]
    return any(_there(pid) for pid in pids)


def _there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _seconds(values: list[float]) -> str:
    return f"{median(values):.2f} / {percentile(values, 0.95):.2f} s"


def _longest(values: list[float]) -> str:
    return f"{median(values):.2f} / {max(values):.2f} s"
