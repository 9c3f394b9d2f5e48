"""What outlives whom: agents, hosts and supervisors die, tasks continue or end for good."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from edge_worker.host_client.client import LaunchError, TaskHost
from edge_worker.processes.table import read_processes
from edge_worker.processes.tree import is_alive, stop_tree
from edge_worker.task_host import job_files
from support.airflow.api.execution_api import eventually
from support.airflow.sdk_jobs import sdk_job
from support.airflow.task_host import Site

pytestmark = pytest.mark.timeout(120)


def _host_pid(host: TaskHost) -> int:
    assert host._connection is not None
    return host._connection.pid


def _lives(pid: int) -> bool:
    return pid in read_processes()


async def _start_tick(site: Site, flag: Path) -> tuple[str, Path]:
    """A task that waits for the flag, in the middle of its work."""
    site.api.variables["flag"] = str(flag)
    job, folder = await site.launch("tick")
    await eventually(lambda: "tick 1" in site.events(job))
    return job.id, folder


async def test_task_continues_when_the_host_is_killed(site: Site, tmp_path: Path) -> None:
    async with site.agent() as host:
        _, folder = await _start_tick(site, tmp_path / "flag")
        first = _host_pid(host)
        os.kill(first, signal.SIGKILL)
        waiting = asyncio.create_task(host.wait(folder))
        await eventually(lambda: not _lives(first))
        assert is_alive(folder)
        (tmp_path / "flag").touch()
        result = await waiting
        assert result.final_state == "success"
        _, result = await site.run("hello")
        assert result.final_state == "success"
        assert _host_pid(host) != first


async def test_new_agent_waits_for_a_task_of_the_old_one(site: Site, tmp_path: Path) -> None:
    async with site.agent() as host:
        _, folder = await _start_tick(site, tmp_path / "flag")
        first = _host_pid(host)
        # As after `kill -9` of the agent: the connection ends without a word.
        assert host._connection is not None
        # The message is lost on its way.
        host._connection.send = lambda message: None  # type: ignore[method-assign]
    assert _lives(first)
    async with site.agent() as host:
        await eventually(lambda: host._connection is not None)
        assert _host_pid(host) == first
        waiting = asyncio.create_task(host.wait(folder))
        (tmp_path / "flag").touch()
        assert (await waiting).final_state == "success"


async def test_host_of_an_orderly_ended_agent_leaves_after_its_last_task(site: Site, tmp_path: Path) -> None:
    async with site.agent() as host:
        _, folder = await _start_tick(site, tmp_path / "flag")
        first = _host_pid(host)
    assert _lives(first)
    (tmp_path / "flag").touch()
    assert (await site.make_host().wait(folder)).final_state == "success"
    await eventually(lambda: not _lives(first))


async def test_other_settings_get_another_host_and_the_old_one_leaves(site: Site, tmp_path: Path) -> None:
    async with site.agent() as host:
        _, folder = await _start_tick(site, tmp_path / "flag")
        first = _host_pid(host)
        assert host._connection is not None
        # The message is lost on its way.
        host._connection.send = lambda message: None  # type: ignore[method-assign]
    site.env["NEW"] = "setting"
    async with site.agent() as host:
        job, _ = await site.run("show_environment")
        assert _host_pid(host) != first
        assert any("'NEW'" in event for event in site.events(job))
        assert _lives(first)
        (tmp_path / "flag").touch()
        assert (await host.wait(folder)).final_state == "success"
        await eventually(lambda: not _lives(first))


async def test_killed_supervisor_ends_its_user_code_and_is_no_success(site: Site, tmp_path: Path) -> None:
    async with site.agent() as host:
        job, folder = await _start_tick(site, tmp_path / "flag")
        user_code = site.api.runs[job]["pid"]
        taken = job_files.read_claim(folder)
        assert taken is not None
        os.kill(taken.pid, signal.SIGKILL)
        result = await host.wait(folder)
        assert result.exit_code is None
        assert result.error == "the supervisor was killed before it could report how the task ended"
        assert not _lives(user_code)
        assert f"The task has failed: {result.error}" in (folder / job_files.TASK_LOG).read_text()


async def test_runtime_without_airflow_is_a_launch_that_failed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = "nonsense://"
    async with site.agent() as host:
        job = sdk_job("hello")
        with pytest.raises(LaunchError, match="the task host cannot be started: "):
            await host.launch(job, site.folder(job))
        assert await host.versions() is None


async def test_launch_that_the_host_does_not_answer_never_starts_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site.agent() as host:
        await site.run("hello")
        pid = _host_pid(host)
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr("edge_worker.host_client.client.ANSWER_S", 0.2)
        job = sdk_job("hello")
        with pytest.raises(LaunchError, match="did not answer") as failed:
            await host.launch(job, site.folder(job))
        assert failed.value.releases
        monkeypatch.undo()
        os.kill(pid, signal.SIGCONT)
        # The host obeys in the order it was told: once this one has ended, the other had its chance.
        await site.run("hello")
        await eventually(lambda: not is_alive(site.folder(job)))
        assert site.api.paths(job.id) == []


async def test_stop_ends_what_ignores_sigterm_and_left_its_session(site: Site, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    site.api.variables["pids"] = str(pids)
    async with site.agent() as host:
        _, folder = await site.launch("stubborn")
        await eventually(lambda: pids.exists() and len(pids.read_text().split()) == 4)
        members = [int(pid) for pid in pids.read_text().split()]
        assert all(_lives(pid) for pid in members)
        steps: list[str] = []
        await stop_tree(folder, grace_s=0.5, on_step=steps.append)
        assert not any(_lives(pid) for pid in members)
        assert not is_alive(folder)
        assert steps[0].startswith("sent SIGTERM to ")
        assert steps[1:] == ["sent SIGKILL after 0.5 s", "all processes are gone"]
        result = await host.wait(folder)
        assert result.exit_code == -9


async def test_stop_ends_a_task_whose_call_is_held(site: Site) -> None:
    held = site.api.held["variables/v1"] = asyncio.Event()
    async with site.agent() as host:
        job, folder = await site.launch("read_with_default")
        await eventually(lambda: "GET variables/v1" in site.api.paths(job.id))
        steps: list[str] = []
        await stop_tree(folder, grace_s=0.5, on_step=steps.append)
        assert not is_alive(folder)
        assert (await host.wait(folder)).final_state != "success"
        held.set()


async def test_stop_of_a_polite_task_needs_no_kill(site: Site) -> None:
    async with site.agent() as host:
        job, folder = await site.launch("polite")
        await eventually(lambda: "ready" in site.events(job))
        steps: list[str] = []
        await stop_tree(folder, grace_s=30, on_step=steps.append)
        assert steps == ["sent SIGTERM to 1 process", "all processes are gone"]
        assert "leaving" in site.events(job)
        assert (await host.wait(folder)).error is None
        await stop_tree(folder, grace_s=30, on_step=steps.append)
        assert len(steps) == 2


async def test_long_state_folder(site: Site) -> None:
    site.root = site.root / "/".join(["a-folder-with-a-rather-long-name-indeed"] * 5)
    async with site.agent():
        _, result = await site.run("hello")
    assert len(str(site.root)) > 150
    assert result.final_state == "success"
