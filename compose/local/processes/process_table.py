"""What runs on this machine, as far as it is ours: who started whom, read from `/proc` or from `ps`."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Seen:
    """One process at one moment.

    Attributes:
        group: Its session, or its process group where there is no `/proc`.
        started: Tells it from a later process with the same id.
    """

    pid: int
    parent: int
    group: int
    started: str


def family(pid: int) -> dict[int, Seen]:
    """The process, all that descend from it and all of its group, by process id; without those that have ended."""
    everything = _all()
    ours = {seen.pid for seen in everything.values() if pid in (seen.pid, seen.group)}
    while more := {seen.pid for seen in everything.values() if seen.parent in ours} - ours:
        ours |= more
    return {each: everything[each] for each in ours}


def still_there(processes: dict[int, Seen]) -> list[Seen]:
    """Those of them that have not ended."""
    now = _all()
    return [seen for seen in processes.values() if seen.pid in now and now[seen.pid].started == seen.started]


async def kill(processes: dict[int, Seen], *, grace_s: float = 0, timeout_s: float = 10) -> None:
    """SIGKILL each that still runs after the grace, and wait until all have gone.

    Raises:
        TimeoutError: One stays.
    """
    patience = time.monotonic() + grace_s
    async with asyncio.timeout(grace_s + timeout_s):
        while left := still_there(processes):
            for seen in left if time.monotonic() >= patience else ():
                with suppress(ProcessLookupError):
                    os.kill(seen.pid, signal.SIGKILL)
            await asyncio.sleep(0.02)


async def end_of(program: int, *, grace_s: float = 0) -> int:
    """Wait for a child of this process, then take away whatever it left behind; returns its exit status.

    This process must have called `adopt_orphans`, else it does not find them. Orphans that end earlier are let go.

    Args:
        program: Process id of the child.
        grace_s: How long they may take to end by themselves.
    """
    status = await asyncio.to_thread(_reap_until, program)
    await kill(_others(), grace_s=grace_s)
    await kill(_others())  # what was started meanwhile
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def adopt_orphans() -> None:
    """Become the parent of whatever this process's descendants leave behind. On Linux; elsewhere it goes to init."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _others() -> dict[int, Seen]:
    """This process's family without itself."""
    return {pid: seen for pid, seen in family(os.getpid()).items() if pid != os.getpid()}


def _reap_until(program: int) -> int:
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == program:
            return status


def _all() -> dict[int, Seen]:
    proc = Path("/proc")
    if (proc / "self" / "stat").exists():
        found = [_from_stat(entry) for entry in proc.iterdir() if entry.name.isdigit()]
    else:
        found = _from_ps()
    return {seen.pid: seen for seen in found if seen}


def _from_stat(entry: Path) -> Seen | None:
    try:
        text = (entry / "stat").read_text(errors="replace")
    except OSError:
        return None  # it ended between the listing and the look
    # The name stands in parentheses and may hold blanks and parentheses itself.
    state, parent, _, session, *more = text.rpartition(")")[2].split()
    return None if state in "ZX" else Seen(int(entry.name), int(parent), int(session), more[15])


def _from_ps() -> list[Seen | None]:
    listing = subprocess.run(
        ["ps", "-axo", "pid=,ppid=,pgid=,stat=,lstart="], capture_output=True, text=True, check=True, timeout=10
    ).stdout
    found: list[Seen | None] = []
    for line in listing.splitlines():
        pid, parent, group, state, started = line.split(None, 4)
        found.append(None if state.startswith("Z") else Seen(int(pid), int(parent), int(group), started))
    return found
