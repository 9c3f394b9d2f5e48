"""A machine keeps running when its program dies, keeps the program's processes, and ends all of them when it ends."""

import os
import signal
import sys
from pathlib import Path

import pytest

from local.processes.child import Child, clean_environment
from local.processes.process_table import process_family, still_running
from support.nats.server import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt orphans")

# Starts a grandchild in its own session, as an agent starts its task host.
PROGRAM = """
import pathlib, subprocess, sys, time
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
with pathlib.Path("children").open("a") as file:
    file.write(f"{child.pid}\\n")
time.sleep(600)
"""


def edge_machine(folder: Path) -> Child:
    wrapper = [sys.executable, "-m", "local.system.edge_machine", "--pid-file", str(folder / "pid"), "--"]
    argv = [*wrapper, sys.executable, "-c", PROGRAM]
    env = clean_environment({"PYTHONPATH": str(Path(__file__).parents[3] / "compose")})
    return Child("machine", argv, log=folder / "log", cwd=folder, env=env)


def children(folder: Path) -> list[int]:
    path = folder / "children"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


async def test_a_program_dies_and_restarts_on_a_machine_that_keeps_running(tmp_path: Path) -> None:
    machine = edge_machine(tmp_path)
    await machine.start()
    try:
        await eventually(lambda: len(children(tmp_path)) == 1, timeout_s=30)
        first = int((tmp_path / "pid").read_text())
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: not (tmp_path / "pid").exists(), timeout_s=30)
        assert machine.running
        os.kill(children(tmp_path)[0], 0)  # its child keeps running
        os.kill(machine.pid, signal.SIGUSR1)
        await eventually(lambda: len(children(tmp_path)) == 2, timeout_s=30)
        assert int((tmp_path / "pid").read_text()) != first
        everything = process_family(machine.pid)
        assert set(children(tmp_path)) < set(everything)
    finally:
        await machine.stop()
    assert still_running(everything) == []


async def test_a_crash_ends_all_processes_at_once(tmp_path: Path) -> None:
    machine = edge_machine(tmp_path)
    await machine.start()
    await eventually(lambda: len(children(tmp_path)) == 1, timeout_s=30)
    everything = process_family(machine.pid)
    assert len(everything) == 3
    await machine.crash()
    assert still_running(everything) == []
    assert not machine.running
