"""What goes wrong with one job stays with it: neither the agent nor another job ends for it."""

import errno
from pathlib import Path

import aiohttp
import pytest

from edge_schemas.life.model import JobState, Verdict
from edge_worker.jobs import job_state, perform
from edge_worker.jobs.registry import MAX_JOBS, JobRegistry
from edge_worker.relay.client import RelayClient
from edge_worker.settings import Settings, SettingsError
from edge_worker.state import job_dir
from edge_worker.state.job_dir import JobDir
from edge_worker.state.state import StateDir
from edge_worker.task_host import job_files
from support.relay.fake_relay import FakeRelay
from support.relay.jobs import make_job
from support.worker.agent import Agent, running_agent
from support.worker.fake_runtime import script_job
from support.worker.local_jobs import ended_job, local_job


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_state, "FAULT_PAUSE_S", 0.01)


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


async def test_an_agent_starts_next_to_a_damaged_job(relay: FakeRelay, settings: Settings) -> None:
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
            # The arguments are passed on as they came.
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
        patch.setattr(perform, "DISK_PAUSE_S", 1.0)
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


async def _read(agent: Agent, job_id: str, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(agent.socket))) as session,
        session.request(method, f"http://gateway/jobs/{job_id}/execution/{path}", headers=headers) as answer,
    ):
        return answer.status, answer.headers.get("Content-Type", "")


async def test_a_read_that_is_too_long_is_refused_as_the_sdk_understands_it(
    relay: FakeRelay, settings: Settings
) -> None:
    job = script_job("print('here', flush=True)\nimport time\ntime.sleep(0.5)")
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await agent.until_log(job.id, b"here")
        answers = [
            await _read(agent, job.id, f"variables/{'k' * 70_000}"),
            await _read(agent, job.id, f"xcoms/d/r/t/k?include={'k' * 70_000}"),
            await _read(agent, job.id, "variables/k", correlation="k" * 20_000),
        ]
    assert answers == [(403, "application/json"), (403, "application/json"), (200, "application/json")]


async def test_an_unforeseen_error_in_the_gateway_never_becomes_a_default_value(
    relay: FakeRelay, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        msg = "a bug"
        raise ValueError(msg)

    monkeypatch.setattr(RelayClient, "execution", fail)
    job = script_job("print('here', flush=True)\nimport time\ntime.sleep(0.5)")
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await agent.until_log(job.id, b"here")
        assert await _read(agent, job.id, "variables/k") == (403, "application/json")
        assert await _read(agent, job.id, "xcoms/d/r/t/k", "POST") == (500, "application/json")


def test_no_more_jobs_are_taken_than_a_poll_can_name(tmp_path: Path) -> None:
    table = JobRegistry(2)
    for _ in range(MAX_JOBS - 1):
        table.add(ended_job(make_job(), JobDir(tmp_path)))
    assert table.free == 1
    table.add(local_job(make_job(), JobDir(tmp_path)))
    assert table.free == 0
    assert table.refusal() is not None


def test_a_lock_that_cannot_be_opened_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(SettingsError, match="state_dir"), StateDir(tmp_path).locked():
        pass


def test_a_missing_folder_of_ended_jobs_stops_nobody(tmp_path: Path) -> None:
    StateDir(tmp_path).clean_up(keep_days=1, now=0)
