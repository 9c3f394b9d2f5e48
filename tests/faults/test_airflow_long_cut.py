"""A task outlives a long cut as if nothing had happened: on its first try, with its whole log.

With default settings in real time, next to the other tests; and with every clock of Airflow's shortened, through all of
them, in `make soak`, since the clocks of the one system that the others share are Airflow's defaults.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from itertools import pairwise

import pytest
import pytest_asyncio

from faults.chaos.cuts import Gap, Watched, behind_a_link
from local.system.system import LocalSystem
from support.network.link import Cut
from support.system.inspection import until

SECONDS = 180
CUT_S = 120


@dataclass(frozen=True)
class Survival:
    """What was seen of a task and of its cut."""

    task: Watched
    gap: Gap
    state: str
    printed: list[str]


async def _survive(system: LocalSystem, queue: str, *, seconds: int, cut_s: float) -> Survival:
    """Half of the cut is a black hole, in the other half connections are refused."""
    async with behind_a_link(system, queue, queue) as (link, _):
        task = await Watched.begin(system, f"one_{queue}", seconds=seconds)
        await task.ran_for(3)
        gap = await task.through(link, Cut.BLACK_HOLE, Cut.REFUSE, each_s=cut_s / 2)
        state = await task.end(timeout_s=seconds + 60)

        async def whole() -> list[str]:
            printed = await task.printed()
            return printed if len(printed) >= seconds else []

        return Survival(task, gap, state, await until(whole, timeout_s=60, what="the whole log arrives"))


async def three_minutes(system: LocalSystem) -> Survival:
    """Started together with the system that all share."""
    return await _survive(system, "long", seconds=SECONDS, cut_s=CUT_S)


def _judge(seen: Survival, *, seconds: int, cut_s: float) -> None:
    assert seen.state == "success"
    assert [(each.number, each.state) for each in seen.task.tries] == [(1, "success")]
    assert seen.printed == [f"second {n}" for n in range(seconds)]
    (life,) = seen.task.lives
    assert life.events == ("begin", "end")
    # The cut was one: user code ran all through it, and the centre heard nothing of it.
    during = [line.time for line in life.lines if seen.gap.began <= line.time <= seen.gap.ended]
    assert seen.gap.ended - seen.gap.began >= cut_s
    assert len(during) >= cut_s
    assert max(later - earlier for earlier, later in pairwise(during)) < 5
    assert seen.gap.lines_at_the_centre <= seen.gap.began - life.began + 2


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.beside.with_args(three_minutes)
async def test_a_three_minute_task_survives_a_two_minute_cut(system: LocalSystem, beside: Awaitable[Survival]) -> None:
    _judge(await beside, seconds=SECONDS, cut_s=CUT_S)


SCALED = {
    ("scheduler", "task_instance_heartbeat_timeout"): "15",
    ("scheduler", "task_instance_heartbeat_timeout_detection_interval"): "2",
    ("scheduler", "task_queued_timeout"): "30",
    ("execution_api", "jwt_expiration_time"): "30",
    # The edge ends a job 30 s before this, counted from a poll that may have been sent a third of the rest before the
    # cut: margins that are not scaled.
    ("edge_relay", "offline_tolerance"): "100",
}
"""Airflow's clocks, a twentieth of their defaults."""


@pytest_asyncio.fixture(loop_scope="session")
async def hurried(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalSystem]:
    """A system that has less patience than any of its tasks."""
    from support.system.whole_system import DAGS

    running = LocalSystem(tmp_path_factory.mktemp("hurried"), dags=DAGS, options=SCALED)
    try:
        await running.start()
        yield running
    finally:
        await running.stop()


@pytest.mark.soak
@pytest.mark.e2e
@pytest.mark.timeout(400)
@pytest.mark.asyncio(loop_scope="session")
async def test_a_task_survives_a_cut_longer_than_every_clock_of_airflow(hurried: LocalSystem) -> None:
    """One waits for longer than a queued task may, and than its first token lives; one is cut off for longer.

    Ten minutes at a twentieth: the supervisor's 35 s without a heartbeat, which are not Airflow's to shorten, make the
    cut 40 s long.
    """
    waited = await Watched.begin(hurried, "one_scaled", seconds=1)
    await asyncio.sleep(35)  # nobody serves the queue: time is what is tried
    seen = await _survive(hurried, "scaled", seconds=50, cut_s=40)
    _judge(seen, seconds=50, cut_s=40)
    assert await waited.end(timeout_s=60) == "success"
    assert [(each.number, each.state) for each in waited.tries] == [(1, "success")]
