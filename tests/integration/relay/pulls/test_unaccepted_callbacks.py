"""Auxiliary jobs that no polling worker accepts do not keep the tasks behind them from being delivered."""

import asyncio
from pathlib import Path

import pytest

from edge_relay.pulls import arrivals
from support.relay.agents import agent, metric, publish
from support.relay.edge import running_edge
from support.relay.jobs import make_auxiliary_job

CALLBACKS = 150
DELAY_S = 0.1
"""Instead of 10 s."""
TASKS = 20


async def test_callbacks_that_no_worker_accepts_do_not_starve_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JetStream delivers what was returned before what is new.

    Without a delay, the callbacks are all that is ever delivered.
    """
    monkeypatch.setattr(arrivals, "NOT_ALLOWED_DELAY_S", DELAY_S)
    async with running_edge(tmp_path) as edge:
        for _ in range(CALLBACKS):
            await publish(edge.broker, make_auxiliary_job("default"))
        tasks = [await publish(edge.broker) for _ in range(TASKS)]
        one = await agent(edge)
        granted: list[str] = []
        async with asyncio.timeout(20):
            while len(granted) < TASKS:
                for grant in await one.grants():
                    granted.append(grant["job"]["id"])
                    assert (await one.start(grant)).status == 204
        assert granted == [task.id for task in tasks]
        assert metric(edge, "edge_relay_returns_total", {"reason": "not_allowed"}) >= CALLBACKS
