"""What goes wrong with one job stays with it: neither the agent nor another job ends for it."""

import errno
from pathlib import Path

import pytest

from edge_schemas.records import JobState, Verdict
from edge_worker import job_dir, job_runner
from edge_worker.job_dir import JobDir
from edge_worker.runtime_side import job_files
from edge_worker.settings import Settings
from support.fake_relay import FakeRelay
from support.fake_runtime import script_job
from support.worker import running_agent


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_runner, "FAULT_PAUSE_S", 0.01)


def _no_space() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


async def test_a_job_whose_files_are_damaged_ends_alone(relay: FakeRelay, settings: Settings, tmp_path: Path) -> None:
    go = tmp_path / "go"
    wait = f"import time\nprint('here', flush=True)\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)"
    damaged, other = script_job(wait), script_job(wait + "\nsucceed()")
    async with running_agent(relay, settings) as agent:
        for job in (damaged, other):
            await relay.publish(job)
            await agent.until_log(job.id, b"here")
        (agent.state.job_dir(damaged.id).path / job_files.PID).write_text("{")
        go.touch()
        await relay.until(lambda: all(relay.state(job.id) is JobState.ENDED for job in (damaged, other)))
    ends = [relay.records[job.id].outcome for job in (damaged, other)]
    assert ends[0] is not None
    assert ends[0].verdict is Verdict.FAILED
    assert ends[1] is not None
    assert ends[1].exit_code == 0
    assert agent.code == 0


async def test_an_agent_starts_beside_a_damaged_job(relay: FakeRelay, settings: Settings) -> None:
    job, other = script_job("print('never')"), script_job("print('b')")
    folder = JobDir(settings.state_dir / "jobs" / job.id)
    folder.path.mkdir(parents=True)
    folder.create(job, "r")
    (folder.path / "final_state").write_bytes(b"\xff")
    (folder.path / job_files.PID).write_text("[]")
    async with running_agent(relay, settings) as agent:
        await relay.publish(other)
        await relay.until(lambda: relay.state(other.id) is JobState.ENDED)
    assert agent.runtime.launched == [other.id]
    assert agent.code == 0


async def test_an_error_that_passes_costs_a_job_nothing(
    relay: FakeRelay, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = script_job("print('once')")
    async with running_agent(relay, settings) as agent:
        launch, faults = agent.runtime.launch, [_no_space(), RuntimeError("a bug")]

        async def launch_at_third_try(*args: object) -> None:
            if faults:
                raise faults.pop()
            await launch(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(agent.runtime, "launch", launch_at_third_try)
        await relay.publish(job)
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
    outcome = relay.records[job.id].outcome
    assert outcome is not None
    assert outcome.exit_code == 0
    assert agent.runtime.launched == [job.id]
    assert relay.logs[job.id] == b"once\n"


async def test_a_reason_that_is_no_text_is_reported_all_the_same(relay: FakeRelay, settings: Settings) -> None:
    async with running_agent(relay, settings) as agent:
        agent.runtime.launch_fails = "no such file: \udcff"
        job = script_job("pass")
        await relay.publish(job)
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
    outcome = relay.records[job.id].outcome
    assert outcome is not None
    assert outcome.reason == "not launched: no such file: ?"


async def test_a_full_disk_does_not_keep_a_log_from_going_to_the_relay(
    relay: FakeRelay, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_offsets(*_: object) -> None:
        raise _no_space()

    monkeypatch.setattr(job_dir.JobDir, "put_log_offset", no_offsets)
    job = script_job("import time\nprint('a', flush=True)\ntime.sleep(0.8)\nprint('b')")
    async with running_agent(relay, settings):
        await relay.publish(job)
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
    assert relay.logs[job.id] == b"a\nb\n"


async def test_a_job_that_cannot_be_written_down_is_given_back_once_and_nothing_is_taken_for_a_while(
    relay: FakeRelay, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_folder(*_: object) -> None:
        raise _no_space()

    with monkeypatch.context() as patch:
        patch.setattr(job_dir.JobDir, "create", no_folder)
        patch.setattr(job_runner, "DISK_PAUSE_S", 1.0)
        job = script_job("pass")
        async with running_agent(relay, settings) as agent:
            await relay.until(lambda: relay.holds_a_poll and relay.polls[-1].free == 2)
            await relay.publish(job)
            await relay.until(lambda: bool(relay.released) and relay.polls[-1].free == 0)
            patch.undo()
            await relay.until(lambda: relay.polls[-1].free == 2)
            relay.granted.clear()
            await relay.publish(job)
            await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
    assert [release.counted for release in relay.released] == [False]
    assert agent.runtime.launched == [job.id]
