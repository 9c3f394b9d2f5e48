"""A job's processes: whether any is left, and the stop ladder that ends them all."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NoReturn

from edge_worker.processes.table import Process, find_tree, read_processes, supervisor_of
from edge_worker.task_host import job_files

SUPERVISOR_GRACE_S = 2.0
"""How long a supervisor may still take to write its last lines after the last of its processes was killed."""

_LOOK_EVERY_S = 0.05
_KILL_AGAIN_EVERY_S = 0.25
_STUCK_AFTER_S = 30.0
_CHECK_STILL_EVERY_S = 0.25
_LOOK_WHILE_STILL_S = 30.0
"""Longest time between two searches for processes of a job that stands still: each reads the whole process table."""
_PROC = Path("/proc")
_STOPPED = frozenset("Tt")
_PS_TIMEOUT_S = 10


def is_alive(job_dir: Path) -> bool:
    """Whether the supervisor or the user code that it forked lives: the job's lock is held."""
    return job_files.is_locked(job_dir)


def supervisor_is_gone(job_dir: Path) -> bool:
    """Whether a supervisor that took the job has died. Its user code may live on, with nobody to tell how it ends."""
    taken = job_files.read_taken(job_dir)
    if taken is None or taken.pid == 0:
        # A supervisor that holds the lock writes next who it is; one that comes too late lets go of it.
        return False
    if taken.start == 0:
        return supervisor_of(taken, read_processes()) is None
    return taken.boot != job_files.boot_id() or job_files.start_time(taken.pid) != taken.start


def has_rebooted(job_dir: Path) -> bool:
    """Whether the machine has gone down since the job was taken."""
    taken = job_files.read_taken(job_dir)
    return taken is not None and taken.boot != job_files.boot_id()


async def stop_tree(job_dir: Path, *, grace_s: float, on_step: Callable[[str], None]) -> None:
    """End all processes of a job: SIGTERM, a grace, SIGKILL. Returns when all are gone, at once if none is left.

    The supervisor gets no SIGTERM while user code lives: it would only hand it on, and user code would run its
    `on_kill` twice. It gets SIGKILL a moment after the others, so that it can still write down how they ended.

    Args:
        job_dir: The job's folder.
        grace_s: Between SIGTERM and SIGKILL.
        on_step: Told of each step, in words for the task's log.
    """
    tree = _Tree(job_dir)
    if not await tree.look():
        return
    on_step(f"sent SIGTERM to {_count(tree.signal(signal.SIGTERM, tree.user_code() or tree.members))}")
    if not await tree.gone_within(grace_s):
        tree.signal(signal.SIGKILL, tree.user_code())
        on_step(f"sent SIGKILL after {grace_s:g} s")
        await _kill_all(tree, on_step)
    on_step("all processes are gone")


async def kill_tree(job_dir: Path, *, on_step: Callable[[str], None]) -> None:
    """End all processes of a job without asking them, also such as were stopped. Returns when all are gone.

    Args:
        job_dir: The job's folder.
        on_step: Told of each step, in words for the task's log.
    """
    tree = _Tree(job_dir)
    if not await tree.look():
        return
    on_step(f"sent SIGKILL to {_count(tree.signal(signal.SIGKILL, tree.user_code()))}")
    await _kill_all(tree, on_step)
    on_step("all processes are gone")


async def hold_still(job_dir: Path) -> NoReturn:
    """Stop a job's processes with SIGSTOP, and whatever of them comes or moves later, until cancelled.

    The supervisor goes on: it sees to its job where the agent dies.
    """
    tree = _Tree(job_dir)
    pause = next_look = 0.0
    asked: set[Process] = set()
    while True:
        if time.monotonic() >= next_look:
            await tree.look()
            pause = min(2 * pause or _LOOK_EVERY_S, _LOOK_WHILE_STILL_S)
            next_look = time.monotonic() + pause
        moving = tree.user_code() - await tree.still()
        tree.signal(signal.SIGSTOP, moving)
        if moving - asked:
            # One of them may just have forked. One that hangs in the kernel does not: it is not looked after so often.
            pause = next_look = 0.0
        asked = moving
        await asyncio.sleep(min(pause or _LOOK_EVERY_S, _CHECK_STILL_EVERY_S))


async def let_go_on(job_dir: Path) -> None:
    """Undo `hold_still`: SIGCONT to each of a job's processes, until none is stopped."""
    tree = _Tree(job_dir)
    await tree.look()
    # All of them at first: a SIGSTOP may still be pending for one that hangs in the kernel.
    stopped = tree.user_code()
    while stopped:
        tree.signal(signal.SIGCONT, stopped)
        await tree.look()
        stopped = await tree.still()
        if stopped:
            await asyncio.sleep(_LOOK_EVERY_S)


async def _kill_all(tree: "_Tree", on_step: Callable[[str], None]) -> None:
    started = time.monotonic()
    stuck = False
    while not await tree.gone_within(_KILL_AGAIN_EVERY_S):
        waited = time.monotonic() - started
        tree.signal(signal.SIGKILL, tree.members if waited >= SUPERVISOR_GRACE_S else tree.user_code())
        if waited >= _STUCK_AFTER_S and not stuck:
            stuck = True
            on_step(f"{_count(len(tree.members))} cannot be killed yet; they hang in the kernel")


def _count(processes: int) -> str:
    return f"{processes} process" if processes == 1 else f"{processes} processes"


class _Tree:
    """What is known of a job's processes; whoever was seen once is followed wherever it moves."""

    def __init__(self, job_dir: Path) -> None:
        self._job_dir = job_dir
        self._supervisor: Process | None = None
        self.members: set[Process] = set()

    async def look(self) -> bool:
        """Read the process table anew. True while anything of the job is left."""
        return await asyncio.to_thread(self._look)

    def _look(self) -> bool:
        taken = job_files.read_taken(self._job_dir)
        if taken is not None:
            table = read_processes()
            self._supervisor = supervisor_of(taken, table)
            self.members = find_tree(taken, table, self.members)
        return bool(self.members) or is_alive(self._job_dir)

    def user_code(self) -> set[Process]:
        """All but the supervisor."""
        return self.members - {self._supervisor}

    async def still(self) -> set[Process]:
        """Those of the user code that were stopped."""
        processes = self.user_code()
        pids = await asyncio.to_thread(_stopped, [process.pid for process in processes])
        return {process for process in processes if process.pid in pids}

    def signal(self, number: signal.Signals, processes: Iterable[Process]) -> int:
        """Send a signal; the number of those that could be reached."""
        reached = 0
        for process in processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, number)
                reached += 1
        return reached

    async def gone_within(self, seconds: float) -> bool:
        """Wait until nothing is left, at most so long."""
        deadline = time.monotonic() + seconds
        while await self.look():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            await asyncio.sleep(min(_LOOK_EVERY_S, left))
        return True


def _stopped(pids: Collection[int]) -> set[int]:
    """Which of these processes were stopped by a signal."""
    if not pids:
        return set()
    if (_PROC / "self/stat").exists():
        return {pid for pid in pids if _state(pid) in _STOPPED}
    command = ["ps", "-o", "pid=", "-o", "stat=", "-p", ",".join(map(str, pids))]
    # Its status is 1 where none of them lives.
    listing = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_PS_TIMEOUT_S)
    states = (line.split() for line in listing.stdout.splitlines())
    return {int(pid) for pid, state in states if state[0] in _STOPPED}


def _state(pid: int) -> str:
    """As the kernel names it; empty if there is no such process."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return ""
    return stat.rpartition(b")")[2].split()[0].decode()
