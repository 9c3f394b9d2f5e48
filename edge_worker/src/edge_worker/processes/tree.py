"""The processes of a job: whether any is left, and how to stop, kill, freeze and thaw them all."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NoReturn

from edge_worker.processes.table import Process, find_tree, holders_of, read_processes, supervisor_of
from edge_worker.task_host import job_files, signals

SUPERVISOR_GRACE_S = 2.0
"""How long a supervisor may take to write its last lines after the last of its processes was killed."""

_CHECK_EVERY_S = 0.05
_KILL_AGAIN_EVERY_S = 0.25
_STUCK_AFTER_S = 30.0
_CHECK_FROZEN_EVERY_S = 0.25
_SEARCH_WHILE_FROZEN_S = 30.0
"""Longest time between two searches for processes of a frozen job: each search reads the entire process table."""
_PROC = Path("/proc")
_STOPPED = frozenset("Tt")
_PS_TIMEOUT_S = 10


def is_alive(job_dir: Path) -> bool:
    """Whether the supervisor or the user code that it forked is alive: the job's lock is held."""
    return job_files.is_locked(job_dir)


def supervisor_is_gone(job_dir: Path) -> bool:
    """Whether a supervisor that claimed the job has died. Its user code may be alive, but nothing reports its end."""
    claim = job_files.read_claim(job_dir)
    if claim is None or claim.pid == 0:
        # A supervisor that holds the lock next writes its claim; one that is too late releases the lock.
        return False
    if claim.start == 0:
        return supervisor_of(claim, read_processes()) is None
    return claim.boot != job_files.boot_id() or job_files.start_time(claim.pid) != claim.start


def has_rebooted(job_dir: Path) -> bool:
    """Whether the machine has gone down since the job was claimed."""
    claim = job_files.read_claim(job_dir)
    return claim is not None and claim.boot != job_files.boot_id()


async def stop_tree(job_dir: Path, *, grace_s: float, on_step: Callable[[str], None]) -> None:
    """Ends all processes of a job: SIGTERM, a grace, SIGKILL. Returns when all are gone, at once if none is left.

    The supervisor gets no SIGTERM while user code is alive: it would only forward it, and user code would run its
    `on_kill` twice. It gets SIGKILL a moment after the others, so that it can still write how they ended.

    Args:
        job_dir: The job's folder.
        grace_s: Between SIGTERM and SIGKILL.
        on_step: Called with each step, in words for the task's log.
    """
    tree = _Tree(job_dir)
    if not await tree.refresh():
        return
    told = await tree.signal(signal.SIGTERM, tree.not_told_by_sudo() or tree.members)
    on_step(f"sent SIGTERM to {_count(told)}")
    if not await tree.gone_within(grace_s):
        await tree.signal(signal.SIGKILL, tree.user_code())
        on_step(f"sent SIGKILL after {grace_s:g} s")
        await _kill_all(tree, on_step)
    on_step("all processes are gone")


async def kill_tree(job_dir: Path, *, on_step: Callable[[str], None]) -> None:
    """Kills all processes of a job with SIGKILL, including stopped ones. Returns when all are gone.

    Args:
        job_dir: The job's folder.
        on_step: Called with each step, in words for the task's log.
    """
    tree = _Tree(job_dir)
    if not await tree.refresh():
        return
    on_step(f"sent SIGKILL to {_count(await tree.signal(signal.SIGKILL, tree.user_code()))}")
    await _kill_all(tree, on_step)
    on_step("all processes are gone")


async def freeze_tree(job_dir: Path) -> NoReturn:
    """Stops a job's processes with SIGSTOP, also those that start or continue later, until cancelled.

    The supervisor is not stopped: it keeps the fence of its job if the agent dies.
    """
    tree = _Tree(job_dir)
    pause = next_search = 0.0
    signalled: set[Process] = set()
    while True:
        if time.monotonic() >= next_search:
            await tree.refresh()
            # A supervisor that has not forked yet, or is not there yet, is about to.
            longest = _SEARCH_WHILE_FROZEN_S if tree.user_code() else _CHECK_FROZEN_EVERY_S
            pause = min(2 * pause or _CHECK_EVERY_S, longest)
            next_search = time.monotonic() + pause
        running = tree.user_code() - await tree.stopped()
        await tree.signal(signal.SIGSTOP, running)
        if running - signalled:
            # One of them may just have forked. A process that hangs in the kernel cannot fork: it needs no new search.
            pause = next_search = 0.0
        signalled = running
        await asyncio.sleep(min(pause or _CHECK_EVERY_S, _CHECK_FROZEN_EVERY_S))


async def thaw_tree(job_dir: Path) -> None:
    """Undoes `freeze_tree`: sends SIGCONT to each of a job's processes until none is stopped."""
    tree = _Tree(job_dir)
    await tree.refresh()
    # All of them at first: a SIGSTOP may still be pending for one that hangs in the kernel.
    stopped = tree.user_code()
    while stopped:
        # sudo stops itself with its command, and would do so again if it went on before its command does.
        sudo = tree.sudo()
        await tree.signal(signal.SIGCONT, stopped - sudo)
        await tree.signal(signal.SIGCONT, stopped & sudo)
        await tree.refresh()
        stopped = await tree.stopped()
        if stopped:
            await asyncio.sleep(_CHECK_EVERY_S)


async def _kill_all(tree: "_Tree", on_step: Callable[[str], None]) -> None:
    started = time.monotonic()
    stuck = False
    while not await tree.gone_within(_KILL_AGAIN_EVERY_S):
        waited = time.monotonic() - started
        await tree.signal(signal.SIGKILL, tree.members if waited >= SUPERVISOR_GRACE_S else tree.user_code())
        if waited >= _STUCK_AFTER_S and not stuck:
            stuck = True
            on_step(
                f"{_count(len(tree.members))} cannot be killed yet: they hang in the kernel, or belong to another user "
                "for whom sudo lets the worker send no signals"
            )


def _count(processes: int) -> str:
    return f"{processes} process" if processes == 1 else f"{processes} processes"


class _Tree:
    """The known processes of a job; a process that was seen once is followed even if it moves."""

    def __init__(self, job_dir: Path) -> None:
        self._job_dir = job_dir
        self._supervisor: Process | None = None
        self.members: set[Process] = set()

    async def refresh(self) -> bool:
        """Reads the process table again. True while any process of the job is left."""
        return await asyncio.to_thread(self._refresh)

    def _refresh(self) -> bool:
        claim = job_files.read_claim(self._job_dir)
        if claim is not None:
            table = read_processes()
            self._supervisor = supervisor_of(claim, table)
            self.members = find_tree(claim, table, self.members)
            if not self.members and is_alive(self._job_dir):
                # The supervisor was killed, and what is left has replaced its environment.
                self.members = holders_of(self._job_dir / job_files.LOCK, table)
        return bool(self.members) or is_alive(self._job_dir)

    def user_code(self) -> set[Process]:
        """All processes except the supervisor."""
        return self.members - {self._supervisor}

    def not_told_by_sudo(self) -> set[Process]:
        """The user code without the commands of `sudo`, which forwards SIGTERM: a task would run `on_kill` twice."""
        forwarding = {process.pid for process in self.sudo()}
        return {process for process in self.user_code() if process.parent not in forwarding}

    def sudo(self) -> set[Process]:
        """The processes of `sudo`."""
        return {process for process in self.user_code() if _name(process.pid) == "sudo"}

    async def stopped(self) -> set[Process]:
        """The stopped processes of the user code."""
        processes = self.user_code()
        pids = await asyncio.to_thread(_stopped, [process.pid for process in processes])
        return {process for process in processes if process.pid in pids}

    async def signal(self, number: signal.Signals, processes: Iterable[Process]) -> int:
        """Sends a signal; returns how many processes received it."""
        processes = list(processes)
        if number == signal.SIGKILL:
            self._kill_groups(processes)
        return await asyncio.to_thread(signals.send, number, [process.pid for process in processes])

    def _kill_groups(self, processes: Iterable[Process]) -> None:
        """A process that forks and exits all the time is gone before it can be killed by its number: its group is not.

        All of a group belong to the job: each one is in a session that was made within the job.
        """
        own = {os.getpgrp()} if self._supervisor is None else {os.getpgrp(), self._supervisor.group}
        for group in {process.group for process in processes} - own:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)

    async def gone_within(self, seconds: float) -> bool:
        """Waits until no process is left, at most so long; False if the time is over."""
        deadline = time.monotonic() + seconds
        while await self.refresh():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            await asyncio.sleep(min(_CHECK_EVERY_S, left))
        return True


def _stopped(pids: Collection[int]) -> set[int]:
    """Which of these processes were stopped by a signal."""
    if not pids:
        return set()
    if (_PROC / "self/stat").exists():
        return {pid for pid in pids if _state(pid) in _STOPPED}
    command = ["ps", "-o", "pid=", "-o", "stat=", "-p", ",".join(map(str, pids))]
    # The exit status is 1 if none of them is alive.
    listing = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_PS_TIMEOUT_S)
    states = (line.split() for line in listing.stdout.splitlines())
    return {int(pid) for pid, state in states if state[0] in _STOPPED}


def _name(pid: int) -> str:
    """The name of its program; empty if it is not known."""
    try:
        return (_PROC / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def _state(pid: int) -> str:
    """The kernel's letter for the state; empty if there is no such process."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return ""
    return stat.rpartition(b")")[2].split()[0].decode()
