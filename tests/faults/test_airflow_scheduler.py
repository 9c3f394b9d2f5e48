"""A scheduler that is killed and comes back: what ended meanwhile is counted right, and what runs continues."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

import pytest

from faults.chaos.centre import another_relay, nats_down, nats_slow
from faults.chaos.cuts import behind_a_link
from faults.chaos.trial import QUEUE, Trial
from local.system.system import LocalSystem
from support.system.inspection import until

AWAY_S = 6.0
"""Some of the tasks end in this time, and with two slots most of them still wait when the new scheduler looks."""


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "nats",
    [
        pytest.param(lambda _: nullcontext(), id="NATS up"),
        pytest.param(nats_slow, id="NATS slow"),
        pytest.param(nats_down, id="NATS down"),
    ],
)
async def test_a_killed_scheduler_counts_right_what_ended_meanwhile(
    system: LocalSystem, tmp_path: Path, nats: Callable[[LocalSystem], AbstractAsyncContextManager[None]]
) -> None:
    """It comes back while NATS is in this state, which lasts until it has looked for orphans."""
    scheduler = system.airflow.children["scheduler"]

    def looks() -> int:
        return scheduler.log.read_text().count("tasks_adopted")

    async with (
        another_relay(system, "relay-scheduler") as replica,
        behind_a_link(system, "scheduler", QUEUE, relay_url=replica.url, slots=2),
    ):
        trial = await Trial.begin(system, tmp_path, tasks=30)
        async with nats(system):
            await scheduler.crash()
            await asyncio.sleep(AWAY_S)
            before = looks()
            await scheduler.start()

            async def looked() -> bool:
                return looks() > before

            await until(looked, timeout_s=180, what="the new scheduler finds the orphans")
        await trial.prove(timeout_s=240)
