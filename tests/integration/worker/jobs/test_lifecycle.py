"""A job from grant to outcome, through a fake relay on a real socket and real processes."""

from collections import Counter

import pytest
from aiohttp import web

from edge_schemas.life.model import JobState, Verdict
from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.worker_report import JobPhase
from edge_worker.settings import Settings
from support.relay.fake_relay import FakeRelay, SeenCall, execution_answer, problem_answer
from support.worker.agent import running_agent
from support.worker.fake_runtime import script_job


async def test_a_job_is_granted_started_run_and_finished(relay: FakeRelay, settings: Settings) -> None:
    job = script_job("print('hello'); succeed()")
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
    outcome = relay.records[job.id].outcome
    assert outcome is not None
    assert outcome.exit_code == 0
    assert relay.logs[job.id] == b"hello\n"
    assert job.task is not None
    assert [call.raw_path for call in relay.calls] == [f"task-instances/{job.task.ti_id}/state"]
    assert agent.code == 0
    assert not agent.state.job_dirs()


async def test_a_short_job_costs_three_calls_besides_polls_and_its_own(relay: FakeRelay, settings: Settings) -> None:
    job = script_job("print('hello')")
    async with running_agent(relay, settings):
        await relay.publish(job)
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
    calls = Counter({path: n for path, n in relay.requests.items() if job.id in path})
    assert calls == {f"/v1/jobs/{job.id}/{verb}": 1 for verb in ("start", "log", "finish")}


@pytest.mark.parametrize("lost", ["poll", "start", "finish", "log"])
async def test_a_lost_answer_is_asked_for_again_and_changes_nothing(
    relay: FakeRelay, settings: Settings, lost: str
) -> None:
    job = script_job("print('once')")
    async with running_agent(relay, settings) as agent:
        await relay.until(lambda: relay.holds_a_poll)
        relay.lose_answer[lost] = 1
        if lost == "poll":
            # What the relay answers is lost; it hands the job out again when the grant wait is over.
            relay.oversells = True
            await relay.publish(job)
            await relay.until(lambda: relay.lose_answer["poll"] == 0)
            relay.granted.clear()
        await relay.publish(job)
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
    assert agent.runtime.launched == [job.id]
    assert relay.logs[job.id] == b"once\n"


@pytest.mark.parametrize(
    ("script", "exit_code", "reason"),
    [
        ("sys.exit(3)", 3, "the process ended with status 3"),
        ("import signal; os.kill(os.getpid(), signal.SIGKILL)", -9, "the process was ended by SIGKILL"),
    ],
)
async def test_an_end_without_a_final_state_is_explained(
    relay: FakeRelay, settings: Settings, script: str, exit_code: int, reason: str
) -> None:
    job = script_job(script)
    async with running_agent(relay, settings):
        await relay.publish(job)
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
    outcome = relay.records[job.id].outcome
    assert outcome is not None
    assert (outcome.verdict, outcome.exit_code, outcome.reason) == (Verdict.FAILED, exit_code, reason)


async def test_a_job_that_cannot_be_launched_fails_with_the_reason_in_its_log(
    relay: FakeRelay, settings: Settings
) -> None:
    job = script_job("")
    async with running_agent(relay, settings) as agent:
        agent.runtime.launch_fails = "no Airflow here"
        await relay.publish(job)
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
    outcome = relay.records[job.id].outcome
    assert outcome is not None
    assert outcome.reason == "not launched: no Airflow here"
    assert b"no Airflow here" in relay.logs[job.id]


async def test_jobs_run_side_by_side_up_to_the_slots(relay: FakeRelay, settings: Settings) -> None:
    jobs = [script_job("call('GET', 'variables/go')") for _ in range(3)]
    seen: list[str] = []

    async def answer(call: SeenCall) -> web.Response:
        seen.append(call.job)
        await relay.until(lambda: len(relay.calls) >= 2)
        return execution_answer(200, {})

    relay.execution = answer
    async with running_agent(relay, settings):
        for job in jobs:
            await relay.publish(job)
        await relay.until(lambda: all(relay.state(job.id) is JobState.ENDED for job in jobs))
    assert len(seen) == 3
    assert max(sum(report.phase is not JobPhase.FINISHING for report in poll.jobs) for poll in relay.polls) == 2
    assert min(poll.free for poll in relay.polls) == 0


async def test_a_surplus_grant_is_given_back_uncounted(relay: FakeRelay, settings: Settings) -> None:
    running, surplus = script_job("call('GET', 'variables/go')"), script_job("")
    settings = settings.model_copy(update={"slots": 1})
    relay.oversells = True

    async def answer(_: SeenCall) -> web.Response:
        await relay.until(lambda: bool(relay.released))
        return execution_answer(200, {})

    relay.execution = answer
    async with running_agent(relay, settings) as agent:
        await relay.publish(running)
        await relay.until(lambda: bool(relay.calls))
        await relay.publish(surplus)
        await relay.until(lambda: bool(relay.released))
        await relay.until(lambda: relay.state(running.id) is JobState.ENDED)
    assert (relay.released[0].reason, relay.released[0].counted) == ("all slots are taken", False)
    assert agent.runtime.launched == [running.id]


async def test_a_refused_start_launches_nothing(relay: FakeRelay, settings: Settings) -> None:
    job = script_job("")
    refusal = problem_answer(ErrorCode.NOT_HOLDER)
    async with running_agent(relay, settings) as agent:
        relay.fault = lambda request: refusal if request.path.endswith("/start") else None
        await relay.publish(job)
        await relay.until(lambda: relay.requests[f"/v1/jobs/{job.id}/start"] == 1)
        await relay.until(lambda: not relay.polls[-1].jobs)
    assert agent.runtime.launched == []


async def test_nothing_is_taken_while_the_runtime_is_not_ready(relay: FakeRelay, settings: Settings) -> None:
    async with running_agent(relay, settings) as agent:
        agent.runtime.is_ready = False
        await relay.until(lambda: bool(relay.polls) and relay.polls[-1].free == 0)
        agent.runtime.is_ready = True
        await relay.until(lambda: relay.polls[-1].free == 2)
    assert relay.polls[-1].versions.airflow == "3.3.2"
