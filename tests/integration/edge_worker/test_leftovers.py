"""What an earlier run left and nobody can read now is not forgotten."""

import pytest

from edge_schemas.polls import JobPhase
from edge_schemas.records import JobState
from edge_worker import job_runner
from edge_worker.ladder import Rung
from edge_worker.settings import Settings
from support.fake_relay import FakeRelay
from support.fake_runtime import script_job
from support.worker import running_agent


async def test_a_job_whose_folder_cannot_be_read_stays_reported_and_is_taken_up_later(
    relay: FakeRelay, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left out of a poll it would be taken for lost, and started elsewhere beside its process."""
    monkeypatch.setattr(job_runner, "LOOK_AT_UNREAD_EVERY_S", 0.05)
    job = script_job("print('up'); time.sleep(1); sys.exit(6)")
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await agent.until_log(job.id, b"up")
        await relay.until(lambda: bool(relay.polls[-1].jobs))
        agent.ladder.reach(Rung.LEAVE, "the test says so")
        await agent.until_ended()
    folder, first = agent.state.job_dir(job.id).path, relay.polls[-1].incarnation
    (folder / "job.json").rename(folder / "kept")
    (folder / "job.json").mkdir()
    async with running_agent(relay, settings) as agent:
        await relay.until(lambda: relay.polls[-1].incarnation > first and relay.polls[-1].free == 1)
        assert [(report.id, report.phase) for report in relay.polls[-1].jobs] == [(job.id, JobPhase.RUNNING)]
        (folder / "job.json").rmdir()
        (folder / "kept").rename(folder / "job.json")
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
        await relay.until(lambda: not relay.polls[-1].jobs and relay.polls[-1].free == 2)
    assert [finish.exit_code for finish in relay.finishes[job.id]] == [6]
    assert relay.logs[job.id].startswith(b"up\n")
