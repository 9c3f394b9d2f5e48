"""A stop reaches the task's processes, and never one that is just reporting its end."""

import asyncio
import json

from aiohttp import web

from edge_schemas.life.model import JobState, Verdict
from edge_worker.settings import Settings
from support.relay.fake_relay import FakeRelay, SeenCall, execution_answer
from support.worker.agent import eventually, running_agent
from support.worker.fake_runtime import script_job


async def test_a_stopped_task_is_ended_and_its_log_says_why(relay: FakeRelay, settings: Settings) -> None:
    job = script_job("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(60)")
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await agent.until_log(job.id, b"up")
        await relay.withdraw(job.id, "marked as failed")
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
        await eventually(lambda: not agent.state.job_dirs())
    outcome = relay.records[job.id].outcome
    assert outcome is not None
    assert (outcome.verdict, outcome.exit_code) == (Verdict.CANCELLED, -9)
    lines = [json.loads(line) for line in relay.logs[job.id].splitlines()[1:]]
    assert all("marked as failed" in line["event"] for line in lines)
    assert ["SIGTERM" in lines[0]["event"], "SIGKILL" in lines[1]["event"]] == [True, True]


async def test_a_task_whose_final_state_is_under_way_is_left_alone(relay: FakeRelay, settings: Settings) -> None:
    job = script_job("status = succeed(); print('said', status); time.sleep(1.5); print('done')")
    go = asyncio.Event()

    async def answer(_: SeenCall) -> web.Response:
        await go.wait()
        return execution_answer(204)

    relay.execution = answer
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await relay.until(lambda: bool(relay.calls))
        await relay.withdraw(job.id)
        await relay.until(lambda: any(report.id == job.id for report in relay.polls[-1].jobs))
        go.set()
        await agent.until_log(job.id, b"said 204")
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
    outcome = relay.records[job.id].outcome
    assert outcome is not None
    assert outcome.exit_code == 0
    assert relay.logs[job.id].endswith(b"done\n")


async def test_a_job_that_is_no_longer_ours_is_dropped_without_a_report(relay: FakeRelay, settings: Settings) -> None:
    job = script_job("print('up'); time.sleep(60)")
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await agent.until_log(job.id, b"up")
        del relay.records[job.id]
        relay.cut()
        await eventually(lambda: not agent.state.job_dirs())
    assert relay.requests[f"/v1/jobs/{job.id}/finish"] == 0


async def test_the_second_rung_stops_the_jobs(relay: FakeRelay, settings: Settings) -> None:
    job = script_job("print('up'); time.sleep(60)")
    async with running_agent(relay, settings.model_copy(update={"drain_timeout_s": 0.2})) as agent:
        await relay.publish(job)
        await agent.until_log(job.id, b"up")
        agent.drain()
        await agent.until_ended()
    (finish,) = relay.finishes[job.id]
    assert (finish.exit_code, finish.release) == (-15, True)
    assert relay.polls[-1].draining
    lines = [json.loads(line)["event"] for line in relay.logs[job.id].splitlines()[1:]]
    assert ["waits for this task" in lines[0], "shut down" in lines[1], "SIGTERM" in lines[1]] == [True, True, True]
