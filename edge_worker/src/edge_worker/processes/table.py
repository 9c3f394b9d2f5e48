"""The machine's processes, and which of them belong to a job."""

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_worker.task_host import job_files
from edge_worker.task_host.job_files import Claim

_PROC = Path("/proc")
_DEAD = frozenset("ZXx")
_PS_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Process:
    """A living process, not a zombie.

    Attributes:
        start: Clock ticks since boot, which together with the pid identify the process; 0 where /proc is missing.
        session: 0 where /proc is missing.
    """

    pid: int
    parent: int
    group: int
    session: int
    start: int


def read_processes() -> dict[int, Process]:
    """Every visible process, by pid."""
    found = _from_proc() if (_PROC / "self/stat").exists() else _from_ps()
    return {process.pid: process for process in found}


def _from_proc() -> Iterable[Process]:
    for entry in os.listdir(_PROC):  # noqa: PTH208 (a name is enough, and there are many)
        if not entry.isdigit():
            continue
        try:
            stat = (_PROC / entry / "stat").read_bytes()
        except OSError:
            continue
        # The command's name is in parentheses and may itself contain parentheses and spaces.
        fields = stat.rpartition(b")")[2].split()
        if fields[0].decode() not in _DEAD:
            parent, group, session = (int(field) for field in fields[1:4])
            yield Process(int(entry), parent, group, session, int(fields[19]))


def _from_ps() -> Iterable[Process]:
    command = ["ps", "-A", "-o", "pid=", "-o", "ppid=", "-o", "pgid=", "-o", "stat="]
    listing = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_PS_TIMEOUT_S)
    for line in listing.stdout.splitlines():
        pid, parent, group, state = line.split()[:4]
        if state[0] not in _DEAD:
            yield Process(int(pid), int(parent), int(group), 0, 0)


def supervisor_of(claim: Claim, table: Mapping[int, Process]) -> Process | None:
    """The supervisor, if it is alive."""
    if claim.boot != job_files.boot_id():
        return None
    process = table.get(claim.pid)
    return process if process is not None and process.start == claim.start else None


def find_tree(claim: Claim, table: Mapping[int, Process], known: Iterable[Process] = ()) -> set[Process]:
    """The processes of a job.

    These are the supervisor and its descendants, the processes that share a session with one of them, those with the
    job's mark in their environment, and those found before, even if they have moved since.

    Args:
        claim: The content of the job's `pid.json`.
        table: From `read_processes`.
        known: From an earlier call.
    """
    tree = {table[old.pid] for old in known if old.pid in table and table[old.pid].start == old.start}
    tree |= _session(claim, table) | _marked(claim, table)
    while grown := _relatives(tree, table) - tree:
        tree |= grown
    return tree


def holders_of(file: Path, table: Mapping[int, Process]) -> set[Process]:
    """The processes that have this file open; none where /proc is missing."""
    return {process for process in table.values() if _has_open(process.pid, file)}


def _has_open(pid: int, file: Path) -> bool:
    folder = _PROC / str(pid) / "fd"
    try:
        return any((folder / name).samefile(file) for name in os.listdir(folder))  # noqa: PTH208 (a name is enough)
    except OSError:
        # The process is gone or belongs to another user, or closes files meanwhile.
        return False


def _session(claim: Claim, table: Mapping[int, Process]) -> set[Process]:
    """The supervisor and its session, which may outlive it."""
    if claim.pid == 0 or claim.boot != job_files.boot_id():
        return set()
    leader = table.get(claim.pid)
    if leader is not None and leader.start != claim.start:
        # The pid belongs to another process now, which is possible only after the session has become empty.
        return set()
    return {
        process
        for process in table.values()
        if process == leader or (process.session == claim.pid and process.start >= claim.start)
    }


def _relatives(tree: set[Process], table: Mapping[int, Process]) -> set[Process]:
    pids = {process.pid for process in tree}
    # Every process of a job is in a session made within the job: the supervisor first makes one.
    sessions = {process.session for process in tree} - {0}
    groups = {process.group for process in tree if process.session == 0}
    return {
        process
        for process in table.values()
        if process.parent in pids or process.session in sessions or process.group in groups
    }


def _marked(claim: Claim, table: Mapping[int, Process]) -> set[Process]:
    mark = f"{job_files.JOB_MARK}={claim.job}".encode()
    found = set()
    for process in table.values():
        try:
            environment = (_PROC / str(process.pid) / "environ").read_bytes()
        except OSError:
            # The process is gone or belongs to another user: it is not of a job, or is found by its parent.
            continue
        if mark in environment.split(b"\0"):
            found.add(process)
    return found
