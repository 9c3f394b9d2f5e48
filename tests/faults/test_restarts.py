"""The worker's processes are killed while tasks run, and started again."""

import asyncio
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from edge_schemas.agents import ONE_HOLD
from edge_schemas.jobs import Job
from edge_schemas.records import JobState, Verdict
from support.broker import eventually
from support.link import Cut
from support.site import Machine, Site, assert_happened_once, log_is_complete

REBOOTED = (sys.executable, str(Path(__file__).parents[1] / "support" / "agent_rebooted.py"))
pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]


async def _running(site: Site, worker: Machine) -> list[Job]:
    """Three tasks that wait to be told, and one that goes its way."""
    jobs = [site.prepare(worker, "until_told", result=n) for n in range(3)]
    jobs.append(site.prepare(worker, pause_s=1))
    for job in jobs:
        await site.publish(job)
    for job in jobs:
        await site.began(job)
    return jobs


@pytest.mark.parametrize("absence_s", [3.0, pytest.param(180.0, marks=pytest.mark.soak)])
async def test_tasks_outlive_a_killed_agent(site: Site, worker: Machine, absence_s: float) -> None:
    """One ends while no agent is there, the others afterwards: each with its own result and its whole log."""
    jobs = await _running(site, worker)
    early, late, last, around = jobs
    await worker.kill_agent()
    gone_at = time.monotonic()
    site.flag(early.id).touch()
    await eventually(lambda: time.monotonic() - gone_at > absence_s, timeout_s=absence_s + 5)
    await worker.start()
    record = await site.ended(early)
    site.flag(late.id).touch()
    site.flag(last.id).touch()
    for job in jobs:
        record = await site.ended(job)
        assert record.outcome is not None
        assert record.outcome.verdict is Verdict.SUCCEEDED, record.outcome
        await eventually(partial(log_is_complete, site, worker, job), what="complete log")
        assert [line.what for line in site.ledger(job.id) if line.what != "tick"] == ["begin", "end"]
        assert site.jobs[job.id].taken["PATCH task-instances/self/state"] == 1
    assert_happened_once(site, around)


async def test_what_a_dead_worker_had_is_lost_within_ten_seconds_of_its_restart(site: Site, worker: Machine) -> None:
    jobs = await _running(site, worker)
    await worker.kill_all()
    assert {(await site.record(job)).state for job in jobs} == {JobState.RUNNING}
    began = time.monotonic()
    await worker.start()
    outcomes = [record.outcome for record in await asyncio.gather(*(site.ended(job, within_s=10) for job in jobs))]
    took_s = time.monotonic() - began
    assert {outcome.verdict for outcome in outcomes if outcome is not None} <= {Verdict.LOST, Verdict.FAILED}
    assert took_s < 10
    for job in jobs:
        assert site.ledger(job.id)[0].what == "begin"
        assert "end" not in [line.what for line in site.ledger(job.id)]
        assert site.jobs[job.id].taken["PATCH task-instances/self/state"] == 0
    # The worker is as good as new: a retry runs there.
    retry = await site.publish(site.prepare(worker, parts=1, pause_s=0))
    assert (record := await site.ended(retry, within_s=90)).outcome is not None
    assert record.outcome.verdict is Verdict.SUCCEEDED


async def test_a_worker_that_lost_its_state_of_the_jobs_loses_them_at_its_restart(site: Site, worker: Machine) -> None:
    """As after power loss with a disk that had nothing written yet: the agent comes back and knows of no job."""
    jobs = await _running(site, worker)
    await worker.kill_all()
    for job in jobs:
        worker.forget(job.id)
    began = time.monotonic()
    await worker.start()
    for job in jobs:
        record = await site.ended(job, within_s=10)
        assert record.outcome is not None
        assert record.outcome.verdict is Verdict.LOST
    assert time.monotonic() - began < 10


@pytest.mark.soak
async def test_power_loss_loses_what_it_had_once_its_old_connection_is_out_of_the_question(
    site: Site, worker: Machine
) -> None:
    """Nobody tells the relay that the old agent's poll is dead, and the disk has lost a job's folder."""
    jobs = await _running(site, worker)
    await site.link.cut(Cut.BLACK_HOLE)
    await worker.kill_all()
    forgotten, *known = jobs
    worker.forget(forgotten.id)
    await site.link.mend()
    began = time.monotonic()
    command, worker.command = worker.command, REBOOTED
    try:
        await worker.start()
    finally:
        worker.command = command
    for job in known:
        record = await site.ended(job, within_s=15)
        assert record.outcome is not None
        assert record.outcome.verdict in {Verdict.FAILED, Verdict.LOST}
    record = await site.ended(forgotten, within_s=ONE_HOLD.total_seconds() + 20)
    assert record.outcome is not None
    assert record.outcome.verdict is Verdict.LOST
    assert time.monotonic() - began < ONE_HOLD.total_seconds() + 20
    await worker.kill_all()
    await worker.start()
