"""The processes of this machine, read from `/proc` or from `ps`: which belong together, and which still run."""

import asyncio
import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessEntry:
    """One process at one moment.

    Attributes:
        group: Its session, or its process group where there is no `/proc`.
        started: Distinguishes it from a later process with the same id.
    """

    pid: int
    parent: int
    group: int
    started: str


def process_family(pid: int) -> dict[int, ProcessEntry]:
    """The process, all its descendants and all members of its group, by process id. Ended processes are left out."""
    table = _read_table()
    members = {entry.pid for entry in table.values() if pid in (entry.pid, entry.group)}
    while more := {entry.pid for entry in table.values() if entry.parent in members} - members:
        members |= more
    return {member: table[member] for member in members}


def still_running(processes: dict[int, ProcessEntry]) -> list[ProcessEntry]:
    """Those of the processes that have not ended."""
    now = _read_table()
    return [entry for entry in processes.values() if entry.pid in now and now[entry.pid].started == entry.started]


async def kill_processes(processes: dict[int, ProcessEntry], *, grace_s: float = 0, timeout_s: float = 10) -> None:
    """Send SIGKILL to each process that still runs after the grace period, and wait until all have ended.

    Raises:
        TimeoutError: A process still runs.
    """
    kill_from = time.monotonic() + grace_s
    async with asyncio.timeout(grace_s + timeout_s):
        while left := still_running(processes):
            for entry in left if time.monotonic() >= kill_from else ():
                with suppress(ProcessLookupError):
                    os.kill(entry.pid, signal.SIGKILL)
            await asyncio.sleep(0.02)


def _read_table() -> dict[int, ProcessEntry]:
    proc = Path("/proc")
    if (proc / "self" / "stat").exists():
        found = [_from_stat(entry) for entry in proc.iterdir() if entry.name.isdigit()]
    else:
        found = _from_ps()
    return {entry.pid: entry for entry in found if entry}


def _from_stat(directory: Path) -> ProcessEntry | None:
    try:
        text = (directory / "stat").read_text(errors="replace")
    except OSError:
        return None  # the process ended after the directory was listed
    # The program's name is in parentheses and may contain spaces and parentheses.
    state, parent, _, session, *more = text.rpartition(")")[2].split()
    return None if state in "ZX" else ProcessEntry(int(directory.name), int(parent), int(session), more[15])


def _from_ps() -> list[ProcessEntry | None]:
    listing = subprocess.run(
        ["ps", "-axo", "pid=,ppid=,pgid=,stat=,lstart="], capture_output=True, text=True, check=True, timeout=10
    ).stdout
    found: list[ProcessEntry | None] = []
    for line in listing.splitlines():
        pid, parent, group, state, started = line.split(None, 4)
        found.append(None if state.startswith("Z") else ProcessEntry(int(pid), int(parent), int(group), started))
    return found
