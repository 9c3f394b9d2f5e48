"""Tasks with `run_as_user`: a real sudo starts a new interpreter for them, as another user."""

import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_worker.processes.tree import freeze_tree, is_alive, stop_tree, thaw_tree
from support.airflow.api.execution_api import eventually
from support.airflow.sdk_jobs import sdk_job
from support.airflow.task_host import Site
from support.system.other_users import AGENT, OTHER, TASK, OtherUsers, missing, other_users

pytestmark = [pytest.mark.timeout(400), pytest.mark.skipif(missing() is not None, reason=str(missing()))]
SLEEPER = "exec sleep 300"


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherUsers]:
    with other_users(tmp_path_factory.mktemp("hidden")) as users:
        yield users


@pytest.fixture
def packages() -> Iterator[Path]:
    """A virtual environment with one package that the runtime does not have, where others may read it."""
    folder = Path(tempfile.mkdtemp(prefix="er-"))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site_packages = folder / "lib" / version / "site-packages"
    site_packages.mkdir(parents=True)
    (site_packages / "only_of_the_bundle.py").write_text("NAME = 'of the bundle'\n")
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


async def test_tasks_of_another_user(site: Site, users: OtherUsers, packages: Path, tmp_path: Path) -> None:
    """Such a task runs as that user, calls Airflow, imports packages of its bundle, is frozen, thawed and stopped."""
    site.api.variables["flag"] = "blue"
    site.runtime_python = users.interpreter(tmp_path)
    async with site.agent() as host:
        first = sdk_job("who_am_i", dag_id="impersonated")
        await host.launch(first, site.folder(first), packages=packages)
        result = await host.wait(site.folder(first))
        assert result.final_state == "success", site.events(first)
        found = site.api.xcoms["xcoms/impersonated/r1/who_am_i/return_value"]
        assert found == [TASK, "of the bundle", "blue"]

        second, folder = await site.launch("stay", dag_id="impersonated")
        await eventually(lambda: "staying" in site.events(second), within_s=60)
        pids = _pids_of(users)
        freezing = asyncio.create_task(freeze_tree(folder))
        await eventually(lambda: all(_state(pid) == "T" for pid in pids), within_s=60)
        freezing.cancel()
        await thaw_tree(folder)
        assert not any(_state(pid) == "T" for pid in pids)
        steps: list[str] = []
        await stop_tree(folder, grace_s=30, on_step=steps.append)
        # Only sudo gets the signal, and forwards it: `on_kill` runs once.
        assert steps == ["sent SIGTERM to 1 process", "all processes are gone"]
        assert site.events(second).count("told to stop") == 1
        assert not is_alive(folder)
        assert _pids_of(users) == []


async def test_an_agent_without_privileges_signals_processes_that_sudo_made(users: OtherUsers) -> None:
    command = users.as_user(AGENT, "setsid", "sudo", "-u", TASK, "sh", "-c", SLEEPER)
    running = await asyncio.create_subprocess_exec(*command, stdin=subprocess.DEVNULL)
    try:
        await eventually(lambda: len(_pids_of(users)) == 1)
        (pid,) = _pids_of(users)
        assert _send(users, AGENT, signal.SIGSTOP, pid, running.pid) == 2
        await eventually(lambda: _state(pid) == _state(running.pid) == "T")
        assert _send(users, AGENT, signal.SIGCONT, pid) == 1
        assert _send(users, AGENT, signal.SIGCONT, running.pid) == 1
        await eventually(lambda: "T" not in {_state(pid), _state(running.pid)})
        assert _send(users, OTHER, signal.SIGKILL, pid) == 0
        assert _send(users, AGENT, signal.SIGKILL, pid) == 1
        assert await running.wait() != 0
        assert _send(users, AGENT, signal.SIGKILL, pid) == 0
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


def _send(users: OtherUsers, name: str, number: signal.Signals, *pids: int) -> int:
    """What `signals.send` returns in a process of this user."""
    code = f"from edge_worker.task_host import signals; print(signals.send({int(number)}, {list(pids)}))"
    sent = subprocess.run(users.as_user(name, sys.executable, "-c", code), check=True, capture_output=True, text=True)
    return int(sent.stdout)


def _pids_of(users: OtherUsers) -> list[int]:
    """The living processes of the task's user."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "-o", "stat=", "-U", str(users.id_of("-u", TASK))],
        check=False,
        capture_output=True,
        text=True,
    )
    return [int(pid) for pid, state in (line.split() for line in found.stdout.splitlines()) if state[0] != "Z"]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""
