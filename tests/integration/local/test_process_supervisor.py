"""Nothing that a command started outlives it, whichever of the two, guard or command, is killed."""

import os
import signal
import sys
from pathlib import Path

import pytest

from local.processes.child import Child, clean_environment
from local.processes.process_table import Seen, family, still_there
from support.broker import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")

# A command that starts something in a session of its own, which ignores SIGTERM, and notes each signal it gets itself.
COMMAND = """
import pathlib, signal, subprocess, sys, time
from local.processes import process_supervisor as guard
guard._GRACE_S = 0.5
guard.guarded()
def note(number, frame):
    with open("signals", "a") as file:
        file.write(signal.Signals(number).name + "\\n")
    sys.exit(3)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, note)
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
pathlib.Path("ready").touch()
time.sleep(600)
"""


async def start(folder: Path) -> tuple[Child, dict[int, Seen], int]:
    """The guard, everything that runs, and the process id of the command."""
    environment = clean_environment({"PYTHONPATH": str(Path(__file__).parents[3] / "compose")})
    guard = Child("guard", [sys.executable, "-c", COMMAND], log=folder / "log", cwd=folder, env=environment)
    await guard.start()
    await eventually((folder / "ready").exists)
    everything = family(guard.pid)
    assert len(everything) == 3
    return guard, everything, next(seen.pid for seen in everything.values() if seen.parent == guard.pid)


async def test_a_killed_command_leaves_nothing(tmp_path: Path) -> None:
    guard, everything, command = await start(tmp_path)
    os.kill(command, signal.SIGKILL)
    assert await guard.wait() == 128 + signal.SIGKILL
    assert still_there(everything) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_reaches_the_command_once(tmp_path: Path, number: signal.Signals) -> None:
    guard, everything, _ = await start(tmp_path)
    os.kill(guard.pid, number)
    assert await guard.wait() == 3
    assert (tmp_path / "signals").read_text() == f"{number.name}\n"
    assert still_there(everything) == []


async def test_the_command_is_told_to_end_when_the_guard_is_killed(tmp_path: Path) -> None:
    guard, everything, command = await start(tmp_path)
    os.kill(guard.pid, signal.SIGKILL)
    await guard.wait()
    await eventually(lambda: _signals(tmp_path) == "SIGTERM\n")
    await eventually(lambda: command not in {seen.pid for seen in still_there(everything)})
    for seen in still_there(everything):
        os.kill(seen.pid, signal.SIGKILL)


def _signals(folder: Path) -> str:
    noted = folder / "signals"
    return noted.read_text() if noted.exists() else ""
