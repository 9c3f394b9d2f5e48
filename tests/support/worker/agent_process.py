"""An agent as a process of its own, for signals and kill -9."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from edge_worker.settings import Settings
from edge_worker.task_host import job_files

EDGE_WORKER = (sys.executable, "-m", "edge_worker")
WITH_FAKE_RUNTIME = (sys.executable, str(Path(__file__).with_name("agent_main.py")))


def agent_environment(settings: Settings, **more: str) -> dict[str, str]:
    """The settings as variables, and nothing of the test's own settings."""
    given = {
        "EDGE_WORKER_STATE_DIR": str(settings.state_dir),
        "EDGE_WORKER_RUNTIME_DIR": str(settings.runtime_dir),
        "EDGE_WORKER_SLOTS": str(settings.slots),
        "EDGE_WORKER_GRACE_S": str(settings.grace_s),
    }
    return {"PATH": os.environ["PATH"], **given, **more}


def kill_jobs(folder: Path) -> None:
    """End what a test left running of the jobs in this folder: they outlive their agent."""
    for path in folder.glob("*"):
        taken = job_files.read_claim(path)
        if taken is not None and taken.pid and job_files.start_time(taken.pid) == taken.start:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(taken.pid, signal.SIGKILL)


@asynccontextmanager
async def agent_process(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running process; killed when the test leaves, if it has not ended by itself."""
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()
