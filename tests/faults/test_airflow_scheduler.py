"""A scheduler that is killed and comes back: what ended meanwhile is counted right, and what runs goes on."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from faults.chaos.trial import QUEUE, Trial
from laptop.system import LaptopSystem
from support.system import until

AWAY_S = 6.0
"""Some of the tasks end in this time, and with two slots most of them still wait when the new scheduler looks."""
SLOW = (0.4, 0.1)
"""Seconds for which NATS stands still, and for which it then works, over and over."""


@pytest.mark.soak
@pytest.mark.timeout(400)
@pytest.mark.parametrize("nats", ["up", "slow", "down"])
async def test_a_killed_scheduler_counts_right_what_ended_meanwhile(
    system: LaptopSystem, tmp_path: Path, nats: str
) -> None:
    """It comes back while NATS is in this state, which lasts until it has looked for orphans."""
    scheduler = system.airflow.children["scheduler"]
    replica = await system.add_replica(f"relay-{nats}")
    worker = await system.add_worker(f"scheduler-{nats}", [QUEUE], relay_url=replica.url, slots=2)
    trial = await Trial.begin(system, tmp_path, tasks=30)
    async with _nats(system, nats):
        await scheduler.crash()
        await asyncio.sleep(AWAY_S)
        before = scheduler.log.read_text().count("tasks_adopted")
        await scheduler.start()

        async def looked() -> bool:
            return scheduler.log.read_text().count("tasks_adopted") > before

        await until(looked, timeout_s=120, what="the new scheduler finds the orphans")
    await trial.prove(timeout_s=200)
    await worker.stop()
    await replica.child.stop()
    del system.workers[f"scheduler-{nats}"], system.replicas[f"relay-{nats}"]


@asynccontextmanager
async def _nats(system: LaptopSystem, state: str) -> AsyncIterator[None]:
    match state:
        case "slow":
            slowing = asyncio.create_task(_slow(system), name="slow")
            try:
                yield
            finally:
                slowing.cancel()
                await asyncio.gather(slowing, return_exceptions=True)
        case "down":
            first, nats = system.relay.child.pid, system.relay.nats
            assert nats is not None
            os.kill(first, signal.SIGSTOP)  # it would start NATS again
            os.kill(nats, signal.SIGKILL)
            try:
                yield
            finally:
                os.kill(first, signal.SIGCONT)
        case _:
            yield


async def _slow(system: LaptopSystem) -> None:
    nats = system.relay.nats
    assert nats is not None
    still_s, works_s = SLOW
    try:
        while True:
            os.kill(nats, signal.SIGSTOP)
            await asyncio.sleep(still_s)
            os.kill(nats, signal.SIGCONT)
            await asyncio.sleep(works_s)
    finally:
        os.kill(nats, signal.SIGCONT)
