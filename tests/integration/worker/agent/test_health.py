"""What a worker tells of itself with each poll is so."""

import time
from functools import partial

import pytest
from aiohttp import web

from edge_schemas.life.model import JobState
from edge_schemas.wire.worker_report import ProxyKind, WorkerHealth
from edge_worker.relay import transport
from edge_worker.relay.clock_skew import ClockSkew
from edge_worker.settings import Settings
from support.relay.fake_relay import FakeRelay, html_page
from support.worker.agent import running_agent
from support.worker.fake_runtime import script_job

AHEAD_S = 500.0


async def test_the_figures_of_a_poll(relay: FakeRelay, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that waits, log bytes that can't be uploaded and a link that is cut show while they last; a clock too."""
    monkeypatch.setattr(transport, "ClockSkew", partial(ClockSkew, clock=lambda: time.time() + AHEAD_S))
    relay.poll_timeout_s = 0.05
    job = script_job("print('x' * 99, flush=True); call('GET', 'variables/go'); assert succeed() == 204")
    stuck = ("/log", "/variables/go")
    relay.fault = lambda request: html_page() if request.path.endswith(stuck) else None

    def told() -> WorkerHealth:
        return relay.polls[-1].health if relay.polls else WorkerHealth()

    def tells(*, held: int, lag: int, cuts: int) -> bool:
        health = told()
        return (health.held_calls, health.log_lag_bytes, health.link_cuts) == (held, lag, cuts)

    async with running_agent(relay, settings):
        await relay.publish(job)
        await relay.until(lambda: tells(held=1, lag=100, cuts=0))
        health = told()
        assert health.clock_skew_s == pytest.approx(AHEAD_S, abs=1.5)
        assert health.proxy is ProxyKind.DIRECT
        assert any(poll.health.cpu_busy_ratio is not None for poll in relay.polls)
        assert health.disk_total_bytes is not None
        assert health.disk_free_bytes is not None
        assert 0 < health.disk_free_bytes < health.disk_total_bytes
        refused = 0

        def cut(request: web.Request) -> web.Response | None:
            nonlocal refused
            refused += request.path.endswith("/poll")
            return html_page()

        relay.fault = cut
        await relay.until(lambda: refused >= 3)
        relay.fault = lambda _: None
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
        await relay.until(lambda: tells(held=0, lag=0, cuts=1))
