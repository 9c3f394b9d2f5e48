"""How soon a worker hears of the centre again once the link is back."""

import asyncio
import time

import pytest

from edge_schemas.life.model import JobState
from edge_worker.agent import link_probe, poll_loop
from edge_worker.settings import Settings
from support.network.link import Cut, Link
from support.relay.fake_relay import FakeRelay
from support.worker.agent import running_agent
from support.worker.fake_runtime import script_job

_RUNS = "print('up'); time.sleep(600)"


async def _seconds_until_stopped(relay: FakeRelay, settings: Settings, how: Cut, cut_s: float) -> tuple[float, float]:
    """A silent task is no longer wanted while the link is cut; how long after that is restored does it take?

    Returns:
        Seconds until the first poll has arrived, and until the task's processes are gone and settled.
    """
    job = script_job(_RUNS)
    async with Link.to(relay.url) as link:
        settings = settings.model_copy(update={"relay_url": f"http://127.0.0.1:{link.port}"})
        async with running_agent(relay, settings) as agent:
            await relay.publish(job)
            await agent.until_log(job.id, b"up")
            await relay.until(lambda: relay.holds_a_poll and bool(relay.polls[-1].jobs))
            await link.cut(how)
            # The answer to the poll that is parked now is lost.
            await relay.withdraw(job.id)
            await asyncio.sleep(cut_s)
            before = len(relay.polls)
            await link.restore()
            restored_at = time.monotonic()
            await relay.until(lambda: len(relay.polls) > before or relay.state(job.id) is JobState.ENDED)
            polled_s = time.monotonic() - restored_at
            await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
            return polled_s, time.monotonic() - restored_at


@pytest.mark.parametrize("how", [Cut.BLACK_HOLE, Cut.REFUSE])
async def test_a_poll_that_is_parked_nowhere_is_not_waited_for(
    relay: FakeRelay, settings: Settings, monkeypatch: pytest.MonkeyPatch, how: Cut
) -> None:
    """With the clocks shortened: a poll is held for 50 s, and would hang for 65."""
    monkeypatch.setattr(link_probe, "PROBE_EVERY_S", 0.3)
    monkeypatch.setattr(link_probe, "PATIENCE_S", 0.2)
    monkeypatch.setattr(poll_loop, "BUSY_CAP_S", 0.3)
    polled_s, stopped_s = await _seconds_until_stopped(relay, settings, how, 1.5)
    assert polled_s < 4
    assert stopped_s < 10


@pytest.mark.soak
@pytest.mark.timeout(200)
@pytest.mark.parametrize("how", [Cut.BLACK_HOLE, Cut.REFUSE, Cut.RESET])
@pytest.mark.parametrize("cut_s", [8, 60, 120])
async def test_a_stop_reaches_the_task_within_seconds_after_a_cut(
    relay: FakeRelay, settings: Settings, how: Cut, cut_s: float
) -> None:
    polled_s, stopped_s = await _seconds_until_stopped(relay, settings, how, cut_s)
    print(f"{how.name} of {cut_s} s: polled after {polled_s:.1f} s, settled after {stopped_s:.1f} s")  # noqa: T201
    assert polled_s < 4
    assert stopped_s < 5
