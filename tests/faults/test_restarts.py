"""The worker's processes are killed while tasks run, and started again."""

import asyncio
import sys
import time
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from edge_schemas.life.agents import ONE_POLL_TIMEOUT
from edge_schemas.life.model import JobState, Verdict
from edge_schemas.wire.jobs import Job
from support.nats.server import eventually
from support.network.link import Cut
from support.system.site import Machine, Site, assert_happened_once, log_is_complete

REBOOTED = (sys.executable, str(Path(__file__).parents[1] / "support" / "worker" / "agent_rebooted.py"))
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
    await site.ended(early)
    site.flag(late.id).touch()
    site.flag(last.id).touch()
    for job in jobs:
        record = await site.ended(job)
        assert record.outcome is not None
        assert record.outcome.verdict is Verdict.SUCCEEDED, record.outcome
        await eventually(partial(log_is_complete, site, worker, job), timeout_s=60, what="complete log")
        assert [line.what for line in site.ledger(job.id) if line.what != "tick"] == ["begin", "end"]
        assert site.jobs[job.id].taken["PATCH task-instances/self/state"] == 1
    assert_happened_once(site, around)


async def test_what_a_dead_worker_had_is_lost_within_ten_seconds_of_its_restart(site: Site, worker: Machine) -> None:
    """The new agent tells how three jobs ended; of the fourth its disk knows nothing any more."""
    jobs = await _running(site, worker)
    await worker.kill_all()
    worker.forget(jobs[0].id)
    assert {(await site.record(job)).state for job in jobs} == {JobState.RUNNING}
    await worker.start()
    verdicts = await _verdicts(site, jobs)
    assert await _last_end(site, jobs) - worker.started_at() < timedelta(seconds=10)
    assert verdicts[0] is Verdict.LOST
    assert set(verdicts[1:]) <= {Verdict.LOST, Verdict.FAILED}
    # The worker is as good as new: a retry runs there.
    retry = await site.publish(site.prepare(worker, parts=1, pause_s=0))
    assert await _verdicts(site, [retry]) == [Verdict.SUCCEEDED]
    for job in jobs:
        whats = [line.what for line in site.ledger(job.id)]
        assert whats[0] == "begin"
        assert "end" not in whats
        assert site.jobs[job.id].taken["PATCH task-instances/self/state"] == 0


async def _last_end(site: Site, jobs: list[Job]) -> datetime:
    outcomes = [(await site.record(job)).outcome for job in jobs]
    return max(outcome.ended_at for outcome in outcomes if outcome is not None)


async def _verdicts(site: Site, jobs: list[Job], *, within_s: float = 90) -> list[Verdict]:
    records = await asyncio.gather(*(site.ended(job, within_s=within_s) for job in jobs))
    return [record.outcome.verdict for record in records if record.outcome is not None]


@pytest.mark.soak
async def test_power_loss_loses_what_the_machine_had_within_a_minute_of_its_restart(
    site: Site, worker: Machine
) -> None:
    """Nobody tells the relay that the old agent's poll is dead, so it takes a whole hold until that is certain."""
    jobs = await _running(site, worker)
    await site.link.cut(Cut.BLACK_HOLE)
    await worker.kill_all()
    worker.forget(jobs[0].id)
    await site.link.restore()
    command, worker.command = worker.command, REBOOTED
    try:
        await worker.start()
    finally:
        worker.command = command
    verdicts = await _verdicts(site, jobs, within_s=150)
    assert await _last_end(site, jobs) - worker.started_at() < ONE_POLL_TIMEOUT + timedelta(seconds=20)
    assert verdicts[0] is Verdict.LOST
    assert set(verdicts[1:]) <= {Verdict.LOST, Verdict.FAILED}
    await worker.kill_all()
    await worker.start()
