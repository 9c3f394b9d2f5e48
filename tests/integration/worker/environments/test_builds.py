"""Builds of environments: shared by jobs, stopped with the last one. A script stands for uv where it has to wait."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_schemas.wire.jobs import BundleRef
from edge_worker.bundles.disk import Disk
from edge_worker.bundles.unavailable import CodeUnavailable
from edge_worker.environments import provider
from edge_worker.environments.provider import Environments, environments_in_use, environments_of
from edge_worker.settings import Settings
from edge_worker.state.state import StateDir
from support.bundles.wheels import make_wheel
from support.relay.jobs import make_job
from support.worker.agent import eventually

pytestmark = pytest.mark.timeout(60)


@dataclass
class Machine:
    """Environments in a state folder, and the code of a bundle that requires packages."""

    environments: Environments
    state: StateDir
    code: Path

    async def packages(self, lines: list[str]) -> Path | None:
        """What a new job gets."""
        ref = BundleRef(name="code", digest="0" * 64, requirements="needs.txt")
        job = make_job().model_copy(update={"bundle": ref})
        job_dir = self.state.job_dir(job.id)
        job_dir.path.mkdir(parents=True)
        return await self.environments.packages_of(job, job_dir, self.code, lines.append)

    def folders(self) -> list[Path]:
        """Of environments, complete or not."""
        return list(self.state.environments.iterdir())


@pytest.fixture
async def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Machine]:
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    make_wheel(tmp_path / "wheels", "edge_greetings", "1.0", "")
    code = tmp_path / "code"
    code.mkdir()
    (code / "needs.txt").write_text("edge-greetings\n")
    settings = Settings(state_dir=tmp_path / "state", bundle_requirements=True)
    state = StateDir(settings.state_dir)
    state.prepare()
    disk = Disk()
    async with asyncio.TaskGroup() as group:
        yield Machine(environments_of(state, settings, disk, group), state, code)
    disk.close()


def _stand_in(path: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    monkeypatch.setattr(provider, "find_uv", lambda: path)


async def test_two_jobs_share_one_build_and_a_third_finds_it(machine: Machine) -> None:
    first, second, third = list[str](), list[str](), list[str]()
    found = await asyncio.gather(machine.packages(first), machine.packages(second))
    assert await machine.packages(third) == found[0] == found[1] != None  # noqa: E711 - each of them
    assert len(machine.folders()) == 1
    assert environments_in_use(machine.state) == {machine.folders()[0].name}
    assert any(line.startswith("uv:") for line in first)
    assert first == second
    assert len(third) == 1


async def test_build_ends_with_all_its_processes_when_the_last_job_is_stopped(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = tmp_path / "pid"
    _stand_in(tmp_path / "uv", f"sleep 1000 & echo $! > {pid}.new; mv {pid}.new {pid}; wait", monkeypatch)
    jobs = [asyncio.create_task(machine.packages([])) for _ in range(2)]
    await eventually(pid.exists)
    jobs[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await jobs[0]
    child = int(pid.read_text())
    assert _runs(child), "another job waits"
    jobs[1].cancel()
    await eventually(lambda: not _runs(child))
    await eventually(lambda: not machine.folders())
    # The next job begins anew.
    _stand_in(tmp_path / "uv", "echo no; exit 3", monkeypatch)
    lines: list[str] = []
    with pytest.raises(CodeUnavailable, match="uv ended with status 3"):
        await machine.packages(lines)
    assert lines[-1] == "uv: no"
    await eventually(lambda: not machine.folders())


async def test_build_that_takes_too_long_is_ended(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "BUILD_S", 0.2)
    _stand_in(tmp_path / "uv", "exec sleep 1000", monkeypatch)
    with pytest.raises(CodeUnavailable, match="uv has not ended"):
        await machine.packages([])
    await eventually(lambda: not machine.folders())


async def test_missing_uv_is_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "find_uv", lambda: None)
    with pytest.raises(CodeUnavailable, match=r"install edge-relay-worker\[requirements\]"):
        await machine.packages([])


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
