"""The offline contract as a supervisor keeps it while its agent is dead.

The centre gives a job up, and Airflow runs it elsewhere, once the worker has been silent for the entire tolerance. The
agent freezes the job before that (unless `on_silence` is `continue`), so the first copy stands still before a second
can start. Tasks outlive the agent: while no agent answers, the supervisor ends its job instead.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from edge_worker.task_host import lease, signals
from edge_worker.task_host.protocol import Offline

CHECK_EVERY_S = 0.25
KILL_AHEAD_S = 1.0
"""Processes that have not ended by themselves are killed so long before the tolerance is over: they must be gone."""

_ASK_S = 2.0
_PROC = Path("/proc")
_STOPPED = frozenset({b"T", b"t"})
_DEAD = frozenset({b"Z", b"X"})
_MAX_ROUNDS = 20


class Right(Enum):
    """What a job may do according to its lease."""

    RUN = "run"
    STOP = "stop"
    NONE = "none"
    """Another copy may run at any moment."""


class SupervisorFence:
    """Decides whether a job may still run.

    Args:
        path: The lease's file.
        offline: The offline contract of the job's queue.
        log: Writes a line to the task's log.

    Attributes:
        end_reason: Why the fence has ended the job, for people; None if it has not.
    """

    def __init__(self, path: Path, offline: Offline, log: Callable[[str], None]) -> None:
        self._path = path
        self._tolerance_s = offline["tolerance_s"]
        self._fence_after_s = offline["fence_after_s"]
        self._log = log
        self.end_reason: str | None = None
        # Without a lease, the last contact is the poll that brought the job.
        self._contact = lease.now()
        self._refresh()

    def right(self) -> Right:
        """What the job may do now. The lease is read again only after the known one has run out."""
        if self._fence_after_s is None:
            return Right.RUN
        if self._silence() >= self._fence_after_s:
            self._refresh()
        silence = self._silence()
        if silence >= max(self._fence_after_s, self._tolerance_s - KILL_AHEAD_S):
            return Right.NONE
        return Right.STOP if silence >= self._fence_after_s else Right.RUN

    def seconds_left(self) -> float | None:
        """Seconds until the job has to stop unless there is contact; None if it never has to."""
        if self._fence_after_s is None:
            return None
        self._refresh()
        return self._fence_after_s - self._silence()

    def end_job(self, what: str) -> None:
        """Records that the fence ends the job; the first time, logs the reason to the task's log."""
        if self.end_reason is None:
            self.end_reason = (
                f"the edge worker's agent does not answer and had no contact with the centre for "
                f"{self._silence():.0f} s; after {self._tolerance_s:g} s the task may be started elsewhere"
            )
            self._log(f"{what}: {self.end_reason}")

    def _silence(self) -> float:
        return lease.now() - self._contact

    def _refresh(self) -> None:
        found = lease.read_lease(self._path)
        if found is not None:
            self._contact = found.sent_at


class Guard:
    """Ends a job at its fence if no agent does: first asks it to stop, then kills it before another copy may run.

    Checks in a thread, because the supervisor's main thread may be in a call that hangs, or may be ending the task more
    slowly.
    """

    def __init__(self, fence: SupervisorFence, gateway_socket: str) -> None:
        self.fence = fence
        self._gateway_socket = gateway_socket
        self._over = threading.Event()

    def must_stop(self) -> bool:
        """Whether the job has to end now. If the tolerance is used up, its processes have been killed on return."""
        right = self.fence.right()
        if right is Right.RUN or not is_unsupervised(self._gateway_socket):
            return False
        self.fence.end_job("This task is stopped" if right is Right.STOP else "All processes of this task are killed")
        if right is Right.NONE:
            end_descendants()
        return True

    def agent_answers(self) -> bool:
        """Whether an agent is alive."""
        return agent_answers(self._gateway_socket)

    def start(self) -> None:
        """Checks from now on, until `stop`. To be called after the task's process was forked: a fork has no thread."""
        if self.fence.seconds_left() is not None:
            threading.Thread(target=self._watch, name="fence", daemon=True).start()

    def stop(self) -> None:
        """The job has ended."""
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(CHECK_EVERY_S):
            if self.fence.right() is Right.NONE and self.must_stop():
                return


def is_unsupervised(gateway_socket: str) -> bool:
    """Whether this process has to end its job itself: no agent answers, and none has frozen the job.

    A frozen job does no harm. The next agent asks the centre about it.
    """
    return not agent_answers(gateway_socket) and not is_frozen()


def agent_answers(gateway_socket: str) -> bool:
    """Whether an agent is alive: then the agent keeps the fence. A stopped or hanging agent does not count."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_ASK_S)
        try:
            sock.connect(gateway_socket)
            # Any answer is enough; the answer to this request is a refusal.
            sock.sendall(b"GET / HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
            return bool(sock.recv(1))
        except OSError:
            return False


def is_frozen() -> bool:
    """Whether all processes below this one are stopped. False if there are none."""
    found = _living_descendants()
    return bool(found) and all(one.state in _STOPPED for one in found.values())


def end_descendants() -> None:
    """Kills all processes below this one. Those whose parent dies become its children; the next round finds them.

    Whole groups are killed: a process that forks and exits all the time is gone before it can be killed by its number.
    What it leaves behind in the process table, until this process removes it, names its group.
    """
    for _ in range(_MAX_ROUNDS):
        below = _descendants(os.getpid(), _processes())
        for group in {one.group for one in below.values()} - {os.getpgrp()}:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        living = _living(below)
        if not living:
            return
        signals.send(signal.SIGKILL, living)
        threading.Event().wait(0.05)


def names_of_descendants() -> list[str]:
    """The living processes below this one, for people."""
    names = []
    for pid in sorted(_living_descendants()):
        with contextlib.suppress(OSError):
            names.append(f"{(_PROC / str(pid) / 'comm').read_text(errors='replace').strip()} (pid {pid})")
    return names


class _Process(NamedTuple):
    state: bytes
    parent: int
    group: int


def _living_descendants() -> dict[int, _Process]:
    return _living(_descendants(os.getpid(), _processes()))


def _living(processes: Mapping[int, _Process]) -> dict[int, _Process]:
    return {pid: one for pid, one in processes.items() if one.state not in _DEAD}


def _descendants(ancestor: int, table: Mapping[int, _Process]) -> dict[int, _Process]:
    found: set[int] = set()
    while grown := {pid for pid, it in table.items() if it.parent == ancestor or it.parent in found} - found:
        found |= grown
    return {pid: table[pid] for pid in found}


def _processes() -> dict[int, _Process]:
    """All processes, also ended ones whose parent has not asked how they ended."""
    table = {}
    for entry in os.listdir(_PROC) if _PROC.is_dir() else ():  # noqa: PTH208 (a name is enough, and there are many)
        if entry.isdigit():
            with contextlib.suppress(OSError):
                state, parent, group = (_PROC / entry / "stat").read_bytes().rpartition(b")")[2].split()[:3]
                table[int(entry)] = _Process(state, int(parent), int(group))
    return table
