"""Short tasks while a random part of the system is killed every few seconds: each ends as its author would expect.

No task's own process is ever killed, so every task must come through with the tries that it fails by itself. What is
judged is what the tasks wrote down, against what Airflow says.
"""

# ruff: noqa: T201  # figures are what it is run for

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from faults.chaos.parts import parts
from faults.chaos.stages import following
from faults.chaos.storm import Storm
from faults.chaos.trial import QUEUE, Trial
from local.system.system import LocalSystem
from support.system.inspection import admin


@dataclass(frozen=True)
class _Pace:
    """See `Storm`."""

    every_s: tuple[float, float]
    away_s: tuple[float, float]
    aim_s: float
    patience_s: float
    rounds: int


@pytest.mark.timeout(300)
async def test_twenty_tasks_through_seven_kills(system: LocalSystem, tmp_path: Path) -> None:
    """Each part once."""
    async with _storm(system, _Pace((0.2, 0.6), (0, 0.5), aim_s=0.5, patience_s=0, rounds=1)) as storm:
        trial = await Trial.begin(system, tmp_path, tasks=20)
        await storm.rage(lambda hits: hits.kills.total() >= 7)
        await trial.prove(timeout_s=120)


@pytest.mark.soak
@pytest.mark.timeout(7200)
async def test_five_hundred_tasks_hit_in_every_stage_of_their_lives(system: LocalSystem, tmp_path: Path) -> None:
    """Goes on with another five hundred, twice at most, until each stage was hit five times."""
    async with _storm(system, _Pace((1, 4), (0, 3), aim_s=3, patience_s=15, rounds=3)) as storm:
        for _ in range(3):
            trial = await Trial.begin(system, tmp_path, tasks=500)
            await storm.rage(trial.over(timeout_s=2400))
            await trial.prove(timeout_s=900)
            if storm.hits.enough(5):
                return
    pytest.fail("a stage was hit less than five times:\n" + storm.hits.table())


@asynccontextmanager
async def _storm(system: LocalSystem, pace: _Pace) -> AsyncIterator[Storm]:
    """A storm over a worker and a relay of its own, and over the services that all share."""
    seed = int(os.environ.get("CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    print(f"CHAOS_SEED={seed}")
    name = f"chaos-{seed}"  # the folder of another storm may be there
    replica = await system.add_replica(f"{name}-relay")
    worker = await system.add_unsandboxed_worker(name, [QUEUE], relay_url=replica.url, slots=8)
    try:
        async with admin(system) as broker, following(broker, QUEUE, worker) as observer:
            storm = Storm(parts(system, worker, replica), observer, random.Random(seed), **asdict(pace))
            try:
                yield storm
            finally:
                print(storm.hits.table())
    finally:
        await worker.stop()
        await replica.child.stop()
        del system.workers[name], system.replicas[f"{name}-relay"]
