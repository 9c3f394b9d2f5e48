"""Agents and task hosts that are killed for real, under tasks of a real Task SDK."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_schemas.life.model import Verdict
from edge_schemas.wire.jobs import Job
from edge_schemas.wire.offline import OfflinePolicy
from edge_worker.task_host import job_files
from support.airflow.api.execution_api import eventually
from support.airflow.sdk_jobs import sdk_job, ti_of
from support.relay.fake_relay import html_page
from support.worker.whole_worker import WholeWorker, whole_worker

pytestmark = pytest.mark.timeout(180)

READS_A_TURN = 35


@pytest.fixture
async def worker(tmp_path: Path, short_dir: Path) -> AsyncIterator[WholeWorker]:
    async with whole_worker(tmp_path, short_dir) as worker:
        yield worker


async def test_agent_and_host_are_killed_and_tasks_end_with_their_own_results(
    worker: WholeWorker, tmp_path: Path
) -> None:
    """One ends while both are dead, the other has to wait for the next agent to say how it ended."""
    flag = tmp_path / "flag"
    worker.api.variables["flag"] = str(flag)
    worker.api.should_retry = True
    succeeds, dies = sdk_job("tick"), sdk_job("die_later")
    await worker.start_agent()
    for job in (succeeds, dies):
        await worker.relay.publish(job)
    for job in (succeeds, dies):
        await worker.until_printed(job.id, "tick 1")
    await worker.kill_host()
    await worker.kill_agent()
    flag.touch()
    await worker.until_gone(dies.id)
    assert (worker.folder(dies.id) / job_files.RESULT).exists()
    assert worker.api.states == {}
    await worker.start_agent()
    outcome = (await worker.ended(succeeds.id)).outcome
    assert outcome is not None
    assert outcome.exit_code == 0
    assert worker.api.states == {succeeds.id: "success"}
    outcome = (await worker.ended(dies.id)).outcome
    assert outcome is not None
    assert (outcome.verdict, outcome.exit_code) == (Verdict.FAILED, -9)
    assert outcome.reason == "the process was ended by SIGKILL"
    for job in (succeeds, dies):
        await _until_log_is_whole(worker, job)
        assert [event for event in worker.events(job.id) if event.startswith("tick")] == ["tick 1", "tick 2"]
        assert sum(call.raw_path == f"task-instances/{ti_of(job)}/run" for call in worker.relay.calls) == 1


async def _until_log_is_whole(worker: WholeWorker, job: Job) -> None:
    """The folder is put aside once the relay has every byte."""
    kept = worker.settings.state_dir / "ended" / job.id / job_files.TASK_LOG
    await eventually(kept.exists)
    assert worker.relay.logs[job.id] == kept.read_bytes()


async def _read_through(worker: WholeWorker, reads: int) -> tuple[str, int]:
    """Have a task read while its link is cut in turns and its agent killed; what it printed, and how often."""
    worker.api.variables = {f"v{number}": f"value-{number}" for number in range(7)} | {"reads": str(reads)}
    worker.api.connections = {f"c{number}": {"conn_type": "http", "host": f"host-{number}"} for number in range(7)}
    job = sdk_job("read_much")
    await worker.start_agent()
    await worker.relay.publish(job)
    await worker.until_printed(job.id, "reading")
    done = asyncio.create_task(worker.ended(job.id))
    turns = 0
    for trouble in itertools.cycle((_kill, _refuse, _html, _kill, _cut)):
        if done.done():
            break
        turns += 1
        before = _reads(worker, job)
        await trouble(worker)
        # Each trouble meets some reads; the next comes once some of them were answered.
        await asyncio.wait({done, asyncio.create_task(_more_reads(worker, job, before))}, return_when="FIRST_COMPLETED")
    await done
    await _until_log_is_whole(worker, job)
    assert worker.api.states[job.id] == "success"
    (verdict,) = (event for event in worker.events(job.id) if event.startswith("wrong"))
    return verdict, turns


def _reads(worker: WholeWorker, job: Job) -> int:
    return sum(call.job == job.id and call.method == "GET" for call in worker.relay.calls)


async def _more_reads(worker: WholeWorker, job: Job, before: int) -> None:
    await eventually(lambda: _reads(worker, job) > before + READS_A_TURN, within_s=60)


async def _kill(worker: WholeWorker) -> None:
    await worker.kill_agent()
    await asyncio.sleep(0.2)
    await worker.start_agent()


async def _refuse(worker: WholeWorker) -> None:
    await worker.relay.stop()
    await asyncio.sleep(0.5)
    await worker.relay.start()


async def _html(worker: WholeWorker) -> None:
    until = time.monotonic() + 0.5
    worker.relay.fault = lambda _: html_page(502) if time.monotonic() < until else None


async def _cut(worker: WholeWorker) -> None:
    worker.relay.cut()
    worker.relay.lose_answer["v3"] += 1


async def test_no_read_becomes_a_default_value_across_cuts_and_killed_agents(worker: WholeWorker) -> None:
    """150 variables with a default and 150 connections, each checked by the task itself."""
    verdict, turns = await _read_through(worker, 150)
    assert verdict == "wrong: [] of 150"
    assert turns >= 5


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_no_read_of_many_becomes_a_default_value(worker: WholeWorker) -> None:
    verdict, turns = await _read_through(worker, 2000)
    assert verdict == "wrong: [] of 2000"
    assert turns >= 30


@pytest.mark.soak
async def test_tasks_of_an_agent_that_never_comes_back_end_in_time(worker: WholeWorker, tmp_path: Path) -> None:
    """At 20 s of tolerance; one of them waits for an answer that never comes."""
    policy = OfflinePolicy(tolerance_s=20)
    ledgers = {}
    worker.api.held["variables/v1"] = asyncio.Event()
    await worker.start_agent()
    jobs = [sdk_job(task, offline=policy) for task in ("keep_ledger", "blocked")]
    for job in jobs:
        ledger = tmp_path / job.id
        worker.api.variables["ledger"] = str(ledger)
        await worker.relay.publish(job)
        await eventually(ledger.exists)
        ledgers[job.id] = ledger
    await worker.relay.until(lambda: any(call.raw_path == "variables/v1" for call in worker.relay.calls))
    await worker.kill_agent()
    killed = time.clock_gettime(time.CLOCK_BOOTTIME)
    for job_id, ledger in ledgers.items():
        await worker.until_gone(job_id)
        assert 0 < float(ledger.read_text().splitlines()[-1]) - killed < policy.tolerance_s
        log = (worker.folder(job_id) / job_files.TASK_LOG).read_text()
        assert "after 20 s the task may be started elsewhere" in log
    assert time.clock_gettime(time.CLOCK_BOOTTIME) - killed < policy.tolerance_s
    assert "WRONG" not in (worker.folder(jobs[1].id) / job_files.TASK_LOG).read_text()
    worker.api.held["variables/v1"].set()
