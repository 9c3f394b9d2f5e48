"""The copies of tasks' logs on this machine's disk: which there are, and one of them line by line."""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_worker.control.agent_control import task_of
from edge_worker.control.client import ControlError
from edge_worker.control.words import printable
from edge_worker.processes.tree import is_alive
from edge_worker.state.job_dir import JobDir
from edge_worker.task_host.job_files import TASK_LOG
from edge_worker.task_host.log_file import read_dropped

CHUNK_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 20
"""A longer line is printed in parts."""
LOOK_EVERY_S = 0.3
_KNOWN = ("timestamp", "level", "event")


@dataclass(frozen=True)
class TaskLog:
    """The log of a job.

    Attributes:
        is_kept: The job is finished; the folder is kept for a time.
        changed_at: When something was last written to it, by the machine's wall clock.
    """

    job: str
    task: str
    folder: Path
    is_kept: bool
    bytes: int
    changed_at: float


def list_logs(state_dir: Path, limit: int) -> list[TaskLog]:
    """The newest logs, the newest first.

    Raises:
        ControlError: The folders can't be read.
    """
    found = []
    for is_kept, parent in ((False, state_dir / "jobs"), (True, state_dir / "ended")):
        for folder in _folders(parent):
            try:
                stat = (folder / TASK_LOG).stat()
            except OSError:
                # No process has written yet, or the folder was moved a moment ago.
                continue
            found.append((stat.st_mtime, stat.st_size, folder, is_kept))
    newest = sorted(found, key=lambda one: one[0], reverse=True)[:limit]
    return [
        TaskLog(folder.name, _task(folder), folder, is_kept, size, changed) for changed, size, folder, is_kept in newest
    ]


def find_log(state_dir: Path, job: str) -> Path:
    """The folder of a job, by its id or the beginning of it.

    Raises:
        ControlError: There is none, or more than one.
    """
    folders = [folder for name in ("jobs", "ended") for folder in _folders(state_dir / name)]
    found = [folder for folder in folders if folder.name == job] or [
        folder for folder in folders if folder.name.startswith(job)
    ]
    names = {folder.name for folder in found}
    if not found:
        raise ControlError(f"no job on this machine begins with {job!r}; 'edge-worker logs' lists those with a log")
    if len(names) > 1:
        raise ControlError(f"{len(names)} jobs begin with {job!r}; write more of the id")
    return found[0]


def read_log(folder: Path, *, follow: bool, pause: Callable[[float], None] = time.sleep) -> Iterator[bytes]:
    """The lines of a log, without their ends; with `follow`, also those that come, until the job has ended.

    The file stays open: the folder is moved when the job ends.

    Raises:
        ControlError: It can't be read.
    """
    log = folder / TASK_LOG
    while follow and not log.exists() and folder.exists():
        pause(LOOK_EVERY_S)
    dropped = read_dropped(folder)
    if dropped:
        yield f"[the first {dropped} bytes were dropped to save room]".encode()
    try:
        with log.open("rb") as file:
            file.seek(dropped)
            rest = b""
            while True:
                # Asked before reading: what is written last is read once more.
                may_grow = follow and _may_grow(folder)
                while chunk := file.read(CHUNK_BYTES):
                    *lines, rest = (rest + chunk).split(b"\n")
                    yield from lines
                    if len(rest) > MAX_LINE_BYTES:
                        yield rest
                        rest = b""
                if not may_grow:
                    break
                pause(LOOK_EVERY_S)
            if rest:
                yield rest
    except OSError as error:
        raise ControlError(f"{log} cannot be read: {error.strerror}") from None


def readable(line: bytes) -> str:
    """A line of a log for people: time, level, text and fields. What is no JSON object is left as it is."""
    text = line.decode(errors="replace").strip("\0")
    try:
        fields = json.loads(text)
    except ValueError:
        return printable(text)
    if not isinstance(fields, dict) or "event" not in fields:
        return printable(text)
    start = " ".join(str(fields[name]) for name in _KNOWN if name in fields)
    more = "".join(f" {name}={value}" for name, value in fields.items() if name not in _KNOWN and value is not None)
    return "\n".join(printable(part) for part in (start + more).split("\n"))


def _may_grow(folder: Path) -> bool:
    """Whether the job is still among those that are not finished, and its process has not ended."""
    if not folder.exists():
        return False
    job_dir = JobDir(folder)
    return not job_dir.was_launched or is_alive(folder)


def _task(folder: Path) -> str:
    try:
        job = JobDir(folder).job()
    except OSError:
        return "-"
    return "-" if job is None else task_of(job)


def _folders(parent: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(parent) if entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ControlError(f"{parent} cannot be read: {error.strerror}; run this as the agent's user or root") from None
