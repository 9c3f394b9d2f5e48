"""A job comes to the same worker again while something of its first time is still there."""

import pytest

from edge_schemas.life.model import JobState
from edge_schemas.wire.job_calls import EndReport
from edge_schemas.wire.jobs import Job
from edge_worker.jobs import job_state
from edge_worker.jobs.recovery import discard_stale_dir
from edge_worker.settings import Settings
from edge_worker.state.state import StateDir
from edge_worker.task_host import job_files
from support.relay.fake_relay import FakeRelay, html_page
from support.relay.jobs import make_job
from support.worker.agent import eventually, running_agent
from support.worker.fake_runtime import script_job


def _again(job: Job, script: str) -> Job:
    return job.model_copy(update={"work": job.work.model_copy(update={"workload": {"script": script}})})


async def test_nothing_of_a_folder_that_was_left_behind_is_used(relay: FakeRelay, settings: Settings) -> None:
    job = script_job("print('new'); sys.exit(7)")
    async with running_agent(relay, settings) as agent:
        await relay.until(lambda: relay.holds_a_poll)
        stale = agent.state.job_dir(job.id)
        stale.path.mkdir()
        stale.create(job, "an old receipt")
        stale.mark_started()
        stale.log.write_bytes(b"old\n")
        stale.put_log_offset(4)
        stale.put_finish(EndReport(exit_code=0))
        stale.mark_finished()
        stale.put_final_state("success")
        job_files.claim(stale.path, job_files.no_process(job.id))
        job_files.write_result(stale.path, job_files.Result(exit_code=0, final_state=None, error=None))
        await relay.publish(job)
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
    outcome = relay.records[job.id].outcome
    assert outcome is not None
    assert outcome.exit_code == 7
    assert relay.logs[job.id] == b"new\n"


async def test_the_rest_of_the_first_log_never_becomes_the_second_ones(
    relay: FakeRelay, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_state, "LOG_FIRST_S", 0.05)
    job = script_job("print('first')")
    relay.fault = lambda request: html_page() if request.path.endswith("/log") else None
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
        await relay.until(lambda: not relay.polls[-1].jobs)
        relay.granted.clear()
        await relay.publish(_again(job, "print('second'); sys.exit(8)"))
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
        relay.fault = lambda _: None
        await eventually(lambda: not agent.state.job_dirs())
    outcome = relay.records[job.id].outcome
    assert outcome is not None
    assert outcome.exit_code == 8
    assert relay.logs[job.id] == b"second\n"
    assert agent.runtime.launched == [job.id, job.id]


def test_a_folder_whose_process_lives_is_not_moved_from_under_it(settings: Settings) -> None:
    state, job = StateDir(settings.state_dir), make_job()
    state.prepare()
    job_dir = state.job_dir(job.id)
    job_dir.create(job, "receipt")
    lock = job_files.hold_lock(job_dir.path)
    assert lock is not None
    with pytest.raises(OSError, match="lives"):
        discard_stale_dir(state, job_dir)
    job_files.release_lock(lock)
    discard_stale_dir(state, job_dir)
    assert state.job_dirs() == []
