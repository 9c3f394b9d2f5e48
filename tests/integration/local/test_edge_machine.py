"""A machine stays when its program dies, keeps what the program left, and takes all of it away at its own end."""

import os
import signal
import sys
from pathlib import Path

import pytest

from local.processes.child import Child, clean_environment
from local.processes.process_table import family, still_there
from support.broker import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt orphans")

# Starts a grandchild in a session of its own, as an agent starts its task host.
PROGRAM = """
import pathlib, subprocess, sys, time
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
with pathlib.Path("children").open("a") as file:
    file.write(f"{child.pid}\\n")
time.sleep(600)
"""


def machine(folder: Path) -> Child:
    around = [sys.executable, "-m", "local.system.edge_machine", "--pid-file", str(folder / "pid"), "--"]
    argv = [*around, sys.executable, "-c", PROGRAM]
    env = clean_environment({"PYTHONPATH": str(Path(__file__).parents[3] / "compose")})
    return Child("machine", argv, log=folder / "log", cwd=folder, env=env)


def children(folder: Path) -> list[int]:
    path = folder / "children"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


async def test_a_program_dies_and_comes_back_on_a_machine_that_stays(tmp_path: Path) -> None:
    stays = machine(tmp_path)
    await stays.start()
    try:
        await eventually(lambda: len(children(tmp_path)) == 1, timeout_s=30)
        first = int((tmp_path / "pid").read_text())
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: not (tmp_path / "pid").exists(), timeout_s=30)
        assert stays.running
        os.kill(children(tmp_path)[0], 0)  # what it started lives on
        os.kill(stays.pid, signal.SIGUSR1)
        await eventually(lambda: len(children(tmp_path)) == 2, timeout_s=30)
        assert int((tmp_path / "pid").read_text()) != first
        everything = family(stays.pid)
        assert set(children(tmp_path)) < set(everything)
    finally:
        await stays.stop()
    assert still_there(everything) == []


async def test_a_crash_takes_all_of_it_at_once(tmp_path: Path) -> None:
    stays = machine(tmp_path)
    await stays.start()
    await eventually(lambda: len(children(tmp_path)) == 1, timeout_s=30)
    everything = family(stays.pid)
    assert len(everything) == 3
    await stays.crash()
    assert still_there(everything) == []
    assert not stays.running
