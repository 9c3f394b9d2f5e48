"""The fake runtime starts, keeps and ends jobs as a real task host does, by the same files."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from contract.runtime_backends import HELLO, RuntimeBackend, fake_runtime, real_task_host
from edge_schemas.wire.jobs import Job
from edge_worker.host_client.client import LaunchError
from edge_worker.host_client.job_end import JobResult
from edge_worker.processes.tree import is_alive, stop_tree
from edge_worker.task_host import job_files
from support.nats.server import eventually

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["fake", "real"])
async def runtime(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RuntimeBackend]:
    start = fake_runtime if request.param == "fake" else real_task_host
    async with start(tmp_path_factory.mktemp("runtime")) as backend:
        yield backend


async def launched(runtime: RuntimeBackend, job: Job) -> Path:
    """The folder of a job that was started."""
    folder = runtime.folder(job)
    await runtime.host.launch(job, folder)
    return folder


async def waiting(runtime: RuntimeBackend, flag: Path) -> tuple[Job, Path]:
    """A job in the middle of its work, and its folder."""
    job = runtime.waits(flag)
    folder = await launched(runtime, job)
    await eventually(lambda: "tick 1" in runtime.log(job), timeout_s=60)
    return job, folder


async def test_a_job_that_ends_well(runtime: RuntimeBackend) -> None:
    job = runtime.hello()
    folder = await launched(runtime, job)
    result = await runtime.host.wait(folder)
    assert (result.exit_code, result.error) == (0, None)
    assert HELLO in runtime.log(job)
    assert not is_alive(folder)
    assert await runtime.host.versions() is not None


async def test_a_job_is_alive_from_its_launch_to_its_end(runtime: RuntimeBackend, tmp_path: Path) -> None:
    job = runtime.waits(tmp_path / "flag")
    folder = await launched(runtime, job)
    assert is_alive(folder), "on return of the launch"
    taken = job_files.read_claim(folder)
    assert taken is not None
    assert (taken.job, taken.pid > 0) == (job.id, True)
    await eventually(lambda: "tick 1" in runtime.log(job), timeout_s=60)
    ended = asyncio.create_task(runtime.host.wait(folder))
    assert not (await asyncio.wait({ended}, timeout=0.2))[0], "it waits until the job has ended"
    (tmp_path / "flag").touch()
    assert (await ended).exit_code == 0
    assert "tick 2" in runtime.log(job)
    assert not is_alive(folder)


async def test_a_job_is_launched_once(runtime: RuntimeBackend) -> None:
    job = runtime.hello()
    folder = await launched(runtime, job)
    with pytest.raises(LaunchError):
        await runtime.host.launch(job, folder)
    assert (await runtime.host.wait(folder)).exit_code == 0
    assert runtime.log(job).count(HELLO) == 1


async def test_user_code_that_is_killed(runtime: RuntimeBackend) -> None:
    folder = await launched(runtime, runtime.dies())
    assert (await runtime.host.wait(folder)).exit_code == -signal.SIGKILL


async def test_a_restarted_agent_waits_for_the_same_job(runtime: RuntimeBackend, tmp_path: Path) -> None:
    _, folder = await waiting(runtime, tmp_path / "flag")
    ended = asyncio.create_task(runtime.another_host().wait(folder))
    (tmp_path / "flag").touch()
    assert (await ended).exit_code == 0


async def test_a_job_is_stopped(runtime: RuntimeBackend, tmp_path: Path) -> None:
    job, folder = await waiting(runtime, tmp_path / "flag")
    await stop_tree(folder, grace_s=5, on_step=lambda _: None)
    assert not is_alive(folder)
    exit_code = (await runtime.host.wait(folder)).exit_code
    assert exit_code in {-signal.SIGTERM, -signal.SIGKILL}
    assert "tick 2" not in runtime.log(job)


async def test_a_supervisor_that_is_killed_leaves_no_user_code(runtime: RuntimeBackend, tmp_path: Path) -> None:
    _, folder = await waiting(runtime, tmp_path / "flag")
    taken = job_files.read_claim(folder)
    assert taken is not None
    os.kill(taken.pid, signal.SIGKILL)
    result = await runtime.host.wait(folder)
    assert result == JobResult(None, None, "the supervisor was killed before it could report how the task ended")
    assert not is_alive(folder)


async def test_a_job_that_was_never_launched(runtime: RuntimeBackend) -> None:
    result = await runtime.host.wait(runtime.folder(runtime.hello()))
    assert result == JobResult(None, None, "no process was ever started for this job")
