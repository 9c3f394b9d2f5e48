"""Short tasks while a random part of the system is killed every few seconds: each ends as its author would expect.

No task's own process is ever killed, so every task must come through with the tries that it fails by itself. What is
judged is what the tasks wrote down, against what Airflow says.
"""

# ruff: noqa: T201  # figures are what it is run for

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import pytest

from faults.chaos.airflow_db import AirflowDatabase
from faults.chaos.judge import judge
from faults.chaos.ledger import Ledger
from faults.chaos.parts import parts
from faults.chaos.stages import following
from faults.chaos.storm import Hits, Storm
from laptop.system import LaptopSystem
from support.system import operator, until

QUEUE = "chaos"
RIGHT = "right"


@dataclass(frozen=True)
class _Pace:
    """See `Storm`."""

    every_s: tuple[float, float]
    away_s: tuple[float, float]
    aim_s: float
    patience_s: float
    rounds: int


@pytest.mark.timeout(300)
async def test_thirty_tasks_through_seven_kills(system: LaptopSystem, tmp_path: Path) -> None:
    """Each part once."""
    async with _storm(system, _Pace((0.2, 1), (0, 1), aim_s=1, patience_s=0, rounds=1)) as storm:
        trial = await _Trial.begin(system, tmp_path, tasks=30)
        await storm.rage(lambda hits: hits.kills.total() >= 7)
        await trial.prove(timeout_s=120)


@pytest.mark.soak
@pytest.mark.timeout(7200)
async def test_five_hundred_tasks_hit_in_every_stage_of_their_lives(system: LaptopSystem, tmp_path: Path) -> None:
    """Goes on with another five hundred, twice at most, until each stage was hit five times."""
    async with _storm(system, _Pace((1, 4), (0, 3), aim_s=3, patience_s=15, rounds=3)) as storm:
        for _ in range(3):
            trial = await _Trial.begin(system, tmp_path, tasks=500)
            await storm.rage(trial.over(timeout_s=1200))
            await trial.prove(timeout_s=900)
            if storm.hits.enough(5):
                return
    pytest.fail("a stage was hit less than five times:\n" + storm.hits.table())


@dataclass
class _Trial:
    """One run of many tasks, and its judgement."""

    system: LaptopSystem
    ledger: Ledger
    dag: str
    run: str

    @classmethod
    async def begin(cls, system: LaptopSystem, folder: Path, *, tasks: int) -> Self:
        dag, ledger = f"chaos_{tasks}", Ledger(folder / "ledger")
        await until(lambda: system.api.has_dag(dag), timeout_s=30)
        if not (await system.api.get("variables", variable_key_pattern="chaos"))["variables"]:
            await system.api.post("variables", {"key": "chaos", "value": RIGHT})
        trial = cls(system, ledger, dag, await system.api.trigger(dag, ledger.conf()))
        await until(trial.has_begun, timeout_s=60, what="a task runs")
        return trial

    async def has_begun(self) -> bool:
        return bool(self.ledger.lives(self.run))

    def over(self, *, timeout_s: float) -> Callable[[Hits], bool]:
        deadline = time.monotonic() + timeout_s
        return lambda _: time.monotonic() > deadline or self._unfinished() == 0

    async def prove(self, *, timeout_s: float) -> None:
        """Wait for the end of all, and judge."""
        over = self.over(timeout_s=timeout_s)
        while not over(Hits()):  # noqa: ASYNC110  # a file is looked at
            await asyncio.sleep(0.5)
        tries = self._airflow.tries(self.dag, self.run)
        problems = judge(self.ledger.lives(self.run), tries, right=RIGHT)
        assert problems == [], "\n".join(problems)

    @property
    def _airflow(self) -> AirflowDatabase:
        return AirflowDatabase(self.system.airflow.directory / "airflow.db")

    def _unfinished(self) -> int:
        return self._airflow.unfinished(self.dag, self.run)


@asynccontextmanager
async def _storm(system: LaptopSystem, pace: _Pace) -> AsyncIterator[Storm]:
    """A storm over a worker and a relay of its own, and over the services that all share."""
    seed = int(os.environ.get("CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    print(f"CHAOS_SEED={seed}")
    replica = await system.add_replica("chaos-relay")
    worker = await system.add_open_worker("chaos", [QUEUE], relay_url=replica.url, slots=8)
    try:
        async with operator(system) as broker, following(broker, QUEUE, worker) as observer:
            storm = Storm(parts(system, worker, replica), observer, random.Random(seed), **asdict(pace))
            try:
                yield storm
            finally:
                print(storm.hits.table())
    finally:
        await worker.stop()
        await replica.child.stop()
        del system.workers["chaos"], system.replicas["chaos-relay"]
