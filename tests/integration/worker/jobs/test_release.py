"""Which ends a job had no part in: what never ran of it may run elsewhere, and no try is spent."""

import asyncio
import os
import signal

import pytest
from aiohttp import web

from edge_schemas.life.model import JobState, Verdict
from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.jobs import Job
from edge_worker.agent.shutdown import ShutdownStage
from edge_worker.jobs.runner import SHUT_DOWN
from edge_worker.settings import Settings
from edge_worker.state.state import StateDir
from edge_worker.task_host import job_files
from support.relay.fake_relay import FakeRelay, html_page, problem_answer
from support.worker.agent import NAME, Agent, running_agent
from support.worker.fake_runtime import script_job


def _supervisor(agent: Agent, job: Job) -> int:
    taken = job_files.read_claim(agent.state.job_dir(job.id).path)
    assert taken is not None
    return taken.pid


async def test_a_supervisor_that_was_killed_gives_its_job_back(relay: FakeRelay, settings: Settings) -> None:
    job = script_job("print('up'); time.sleep(60)")
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await agent.until_log(job.id, b"up")
        os.kill(_supervisor(agent, job), signal.SIGKILL)
        await relay.until(lambda: job.id in relay.finishes)
        (finish,) = relay.finishes[job.id]
        assert (finish.release, finish.exit_code) == (True, None)
        assert finish.incarnation == relay.polls[-1].incarnation
        assert finish.receipt == relay.granted[job.id]
        assert relay.state(job.id) is JobState.WAITING


async def test_a_machine_that_went_down_gives_back_a_job_that_ran(relay: FakeRelay, settings: Settings) -> None:
    """Its process is of an earlier boot. A job that was only just started is launched: its holder may start it."""
    state, ran, started = StateDir(settings.state_dir), script_job(""), script_job("")
    state.prepare()
    for job in (ran, started):
        folder = state.job_dir(job.id)
        folder.create(job, "receipt")
        folder.mark_started()
        relay.hand_out(job, NAME)
    job_files.claim(state.job_dir(ran.id).path, job_files.Claim(ran.id, 4711, 1, "an earlier boot"))
    async with running_agent(relay, settings) as agent:
        await relay.until(lambda: all(job.id in relay.finishes for job in (ran, started)))
        assert [relay.finishes[job.id][0].release for job in (ran, started)] == [True, False]
        assert [relay.state(job.id) for job in (ran, started)] == [JobState.WAITING, JobState.ENDED]
    assert agent.runtime.launched == [started.id]


@pytest.mark.parametrize("why", ["exit", "launch"])
async def test_a_job_that_failed_here_is_not_given_back(relay: FakeRelay, settings: Settings, why: str) -> None:
    job = script_job("sys.exit(3)")
    async with running_agent(relay, settings) as agent:
        agent.runtime.launch_fails = "no such bundle" if why == "launch" else None
        await relay.publish(job)
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
    outcome = relay.records[job.id].outcome
    assert outcome is not None
    assert outcome.verdict is Verdict.FAILED
    assert not relay.finishes[job.id][0].release


async def test_a_job_that_nobody_has_started_when_the_worker_leaves_is_released(
    relay: FakeRelay, settings: Settings
) -> None:
    job = script_job("")
    relay.fault = lambda request: html_page() if request.path.endswith("/start") else None
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await relay.until(lambda: relay.requests[f"/v1/jobs/{job.id}/start"] > 0)
        agent.drain()
        await agent.until_ended()
    assert [release.reason for release in relay.released] == [SHUT_DOWN]
    assert (relay.state(job.id), agent.runtime.launched) == (JobState.WAITING, [])


async def test_a_job_whose_runtime_never_gets_ready_is_given_back_when_the_worker_leaves(
    relay: FakeRelay, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, asked = script_job(""), asyncio.Event()

    async def hang(*_: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    async with running_agent(relay, settings) as agent:
        monkeypatch.setattr(agent.runtime, "launch", hang)
        await relay.publish(job)
        await asked.wait()
        agent.shutdown.reach(ShutdownStage.STOP, "the test says so")
        await agent.until_ended()
    assert relay.finishes[job.id][0].release
    assert relay.state(job.id) is JobState.WAITING


async def test_a_start_that_came_through_unheard_is_given_back_when_the_worker_leaves(
    relay: FakeRelay, settings: Settings
) -> None:
    job = script_job("")
    relay.lose_answer["start"] = 1000
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await relay.until(lambda: relay.state(job.id) is JobState.RUNNING)
        agent.drain()
        await agent.until_ended()
    assert relay.finishes[job.id][0].release
    assert (relay.state(job.id), agent.runtime.launched) == (JobState.WAITING, [])


async def test_a_finish_waits_until_the_takeover_is_certain(relay: FakeRelay, settings: Settings) -> None:
    """An agent with a copied folder must not settle a job that runs elsewhere; the relay says when it may."""
    job, asked = script_job(""), 0

    def fault(request: web.Request) -> web.Response | None:
        nonlocal asked
        if asked >= 2 or not request.path.endswith("/finish"):
            return None
        asked += 1
        return problem_answer(ErrorCode.TAKEOVER_PENDING, retry_after_s=0.1)

    relay.fault = fault
    async with running_agent(relay, settings):
        await relay.publish(job)
        await relay.until(lambda: job.id in relay.finishes)
    assert asked == 2
