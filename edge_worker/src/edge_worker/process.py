"""A job's processes: whether any is left, and the stop ladder that ends them all."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from edge_worker.process_table import Process, find_tree, read_processes, supervisor_of
from edge_worker.runtime_side import job_files

SUPERVISOR_GRACE_S = 2.0
"""How long a supervisor may still take to write its last lines after the last of its processes was killed."""

_LOOK_EVERY_S = 0.05
_KILL_AGAIN_EVERY_S = 0.25
_STUCK_AFTER_S = 30.0


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
