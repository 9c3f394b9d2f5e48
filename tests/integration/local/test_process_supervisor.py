"""When a command or its supervisor is killed, no process that the command started keeps running."""

import os
import signal
import sys
from pathlib import Path

import pytest

from local.processes.child import Child, clean_environment
from local.processes.process_table import ProcessEntry, process_family, still_running
from support.nats.server import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")

# A command that records the signals it gets. It starts a process in its own session, which ignores SIGTERM.
COMMAND = """
import pathlib, signal, subprocess, sys, time
from local.processes import process_supervisor
process_supervisor._GRACE_S = 0.5
process_supervisor.continue_under_supervisor()
def record(number, frame):
    with open("signals", "a") as file:
        file.write(signal.Signals(number).name + "\\n")
    sys.exit(3)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, record)
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
pathlib.Path("ready").touch()
time.sleep(600)
"""


async def start(folder: Path) -> tuple[Child, dict[int, ProcessEntry], int]:
    """The supervisor, all running processes, and the process id of the command."""
    environment = clean_environment({"PYTHONPATH": str(Path(__file__).parents[3] / "compose")})
    supervisor = Child("supervisor", [sys.executable, "-c", COMMAND], log=folder / "log", cwd=folder, env=environment)
    await supervisor.start()
    await eventually((folder / "ready").exists)
    everything = process_family(supervisor.pid)
    assert len(everything) == 3
    return supervisor, everything, next(seen.pid for seen in everything.values() if seen.parent == supervisor.pid)


async def test_a_killed_command_leaves_no_process(tmp_path: Path) -> None:
    supervisor, everything, command = await start(tmp_path)
    os.kill(command, signal.SIGKILL)
    assert await supervisor.wait() == 128 + signal.SIGKILL
    assert still_running(everything) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_reaches_the_command_once(tmp_path: Path, number: signal.Signals) -> None:
    supervisor, everything, _ = await start(tmp_path)
    os.kill(supervisor.pid, number)
    assert await supervisor.wait() == 3
    assert (tmp_path / "signals").read_text() == f"{number.name}\n"
    assert still_running(everything) == []


async def test_the_command_gets_sigterm_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    supervisor, everything, command = await start(tmp_path)
    os.kill(supervisor.pid, signal.SIGKILL)
    await supervisor.wait()
    await eventually(lambda: _signals(tmp_path) == "SIGTERM\n")
    await eventually(lambda: command not in {seen.pid for seen in still_running(everything)})
    for seen in still_running(everything):
        os.kill(seen.pid, signal.SIGKILL)


def _signals(folder: Path) -> str:
    recorded = folder / "signals"
    return recorded.read_text() if recorded.exists() else ""
