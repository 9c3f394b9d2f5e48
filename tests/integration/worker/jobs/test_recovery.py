"""What an earlier run left and nobody can read now is not forgotten."""

import threading
from pathlib import Path

import pytest

from edge_schemas.life.model import JobState
from edge_schemas.wire.worker_report import JobPhase
from edge_worker.agent.shutdown import ShutdownStage
from edge_worker.jobs import runner
from edge_worker.settings import Settings
from edge_worker.state.state import StateDir
from support.relay.fake_relay import FakeRelay
from support.worker.agent import eventually, running_agent
from support.worker.fake_runtime import script_job

# Prints what a heartbeat and a read are answered, whenever that changes; an agent that is away answers nothing.
_BEATS = """
print("up")
last, beat = None, "task-instances/" + os.environ["TI"] + "/heartbeat"
while not os.path.exists({go!r}):
    time.sleep(0.02)
    try: answers = call("PUT", beat, {{}})[0], call("GET", "variables/v")[0]
    except (OSError, http.client.HTTPException): continue
    if answers != last: print(*answers)
    last = answers
sys.exit(6)
"""


@pytest.mark.parametrize("name", ["job.json", "pid.json"])
async def test_a_job_whose_folder_cannot_be_read_stays_reported_and_is_taken_up_later(
    relay: FakeRelay, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Left out of a poll it would be taken for lost, and started elsewhere next to its process.

    That its own process asks meanwhile ends it no more: heartbeats are answered, and what cannot be is to be repeated.
    """
    monkeypatch.setattr(runner, "RETRY_UNREAD_EVERY_S", 0.05)
    go = tmp_path / "go"
    job = script_job(_BEATS.format(go=str(go)))
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await agent.until_log(job.id, b"up")
        await relay.until(lambda: bool(relay.polls[-1].jobs))
        agent.shutdown.reach(ShutdownStage.LEAVE, "the test says so")
        await agent.until_ended()
    folder, first = agent.state.job_dir(job.id).path, relay.polls[-1].incarnation
    (folder / name).rename(folder / "kept")
    (folder / name).mkdir()
    async with running_agent(relay, settings) as agent:
        await relay.until(lambda: relay.polls[-1].incarnation > first and relay.polls[-1].free == 1)
        assert [(report.id, report.phase) for report in relay.polls[-1].jobs] == [(job.id, JobPhase.RUNNING)]
        await agent.until_log(job.id, b"204 503")
        go.touch()
        (folder / name).rmdir()
        (folder / "kept").rename(folder / name)
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
        await relay.until(lambda: not relay.polls[-1].jobs and relay.polls[-1].free == 2)
    assert [finish.exit_code for finish in relay.finishes[job.id]] == [6]
    answers = {line for line in relay.logs[job.id].decode().splitlines() if line[0].isdigit()}
    assert answers <= {"204 503", "204 200"}
    assert relay.logs[job.id].startswith(b"up\n")


async def test_ended_jobs_of_weeks_are_removed_next_to_the_polls(
    relay: FakeRelay, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of folders take minutes on a slow disk, in which no heartbeat would be answered and no poll sent."""
    polled, waited = threading.Event(), []
    monkeypatch.setattr(StateDir, "clean_up", lambda *_, **__: waited.append(polled.wait(5)))
    async with running_agent(relay, settings):
        await relay.until(lambda: bool(relay.polls))
        polled.set()
        await eventually(lambda: waited == [True])
