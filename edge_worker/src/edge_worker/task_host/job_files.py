"""The files by which agent, task host and a task's processes agree about one job.

A job's folder contains:

* `lock`: held (`flock`) by the supervisor from its start to its end, and by the user code that it forks.
* `pid.json`: which process claims the job; made once, never replaced. The process that makes it decides whether the job
  runs here.
* `exited`: made when the task's own process has exited; what it started may still run.
* `result.json`: how the job ended; written once, complete or not at all.
* `task.log`: the task's log as Airflow shows it (`log_file`). `supervisor.log`: the supervisor's own output.

Whether a job runs and how it ended is known without its parent's wait status, so agent and host may die at any time.
"""

import contextlib
import fcntl
import json
import os
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

LOCK = "lock"
PID = "pid.json"
EXITED = "exited"
RESULT = "result.json"
TASK_LOG = "task.log"
SUPERVISOR_LOG = "supervisor.log"

JOB_MARK = "EDGE_RELAY_JOB"
"""Environment variable with the job's id, by which processes that have left the job's process tree are found."""

_RESERVE = ".result.reserve"
_RESERVE_BYTES = 4096
"""Far more than a result needs."""
_LOCK_TRIES = 100
_LOCK_PAUSE_S = 0.02
_PROC = Path("/proc")

T = TypeVar("T")


@dataclass(frozen=True)
class Claim:
    """The content of `pid.json`.

    Attributes:
        pid: The supervisor; 0 if the agent has decided that the job never starts here.
        start: Its start time in clock ticks since boot, which distinguishes it from a later process with the same pid;
            0 where unknown.
        boot: The boot to which pid and start belong.
    """

    job: str
    pid: int
    start: int
    boot: str


@dataclass(frozen=True)
class Result:
    """The content of `result.json`.

    Attributes:
        exit_code: Of the user code's process, negative for a signal.
        final_state: The state of the task according to the supervisor.
        error: Why the supervisor itself failed, for people.
    """

    exit_code: int | None
    final_state: str | None
    error: str | None


def this_process(job: str) -> Claim:
    """The claim of the calling process."""
    return Claim(job=job, pid=os.getpid(), start=start_time(os.getpid()) or 0, boot=boot_id())


def no_process(job: str) -> Claim:
    """The claim with which the agent decides that a job never starts here."""
    return Claim(job=job, pid=0, start=0, boot=boot_id())


def claim(job_dir: Path, content: Claim) -> bool:
    """Makes `pid.json`. False if it exists: another process has decided."""
    draft = _draft(job_dir / PID, asdict(content))
    try:
        os.link(draft, job_dir / PID)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    _sync_folder(job_dir)
    return True


def read_claim(job_dir: Path) -> Claim | None:
    """The content of `pid.json`; None if no process has claimed the job.

    Raises:
        ValueError: The file is damaged.
        TypeError: The file has other fields.
    """
    return _read(job_dir / PID, Claim)


def mark_exited(job_dir: Path) -> None:
    """The task's own process has exited."""
    (job_dir / EXITED).touch()


def has_exited(job_dir: Path) -> bool:
    """Whether the task's own process is known to have exited."""
    return (job_dir / EXITED).exists()


def write_result(job_dir: Path, result: Result) -> None:
    """Writes `result.json` so that a reader, or the next boot, sees all of it or nothing."""
    reserve = job_dir / _RESERVE
    if reserve.exists():
        _overwrite(reserve, json.dumps(asdict(result)).encode())
        reserve.replace(job_dir / RESULT)
    else:
        _draft(job_dir / RESULT, asdict(result)).replace(job_dir / RESULT)
    _sync_folder(job_dir)


def reserve_result(job_dir: Path) -> None:
    """Reserves the room for `result.json` before the job starts: the job may fill the disk.

    Raises:
        OSError: The disk is full already.
    """
    (job_dir / _RESERVE).write_bytes(bytes(_RESERVE_BYTES))


def read_result(job_dir: Path) -> Result | None:
    """The content of `result.json`; None if there is none."""
    return _read(job_dir / RESULT, Result)


def hold_lock(job_dir: Path) -> int | None:
    """Takes the job's lock for as long as the returned descriptor, or a copy of it in a fork, is open.

    None if another process holds it. A check by `is_locked` may hold it for an instant, hence the repetitions.
    """
    lock = os.open(job_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(_LOCK_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        time.sleep(_LOCK_PAUSE_S)
    os.close(lock)
    return None


def release_lock(lock: int) -> None:
    """Releases the lock for all processes that share it: an orphan of user code must not keep the job alive."""
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


def is_locked(job_dir: Path) -> bool:
    """Whether a process of the job lives."""
    try:
        lock = os.open(job_dir / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def write_log_line(job_dir: Path, event: str, *, level: str = "error") -> None:
    """Adds a line to the task's log in the form that Airflow's log view reads."""
    log = os.open(job_dir / TASK_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(log, log_line(event, level))
    finally:
        os.close(log)


def log_line(event: str, level: str, *, logger: str = "task") -> bytes:
    """A line in the form that Airflow's log view reads."""
    stamp = datetime.now(tz=UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({"timestamp": stamp, "level": level, "event": event, "logger": logger}).encode() + b"\n"


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is no such process or no /proc."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[19])


def boot_id() -> str:
    """Identifies the current boot of the machine; empty where the kernel does not provide it."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _read(path: Path, kind: Callable[..., T]) -> T | None:
    try:
        fields = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return kind(**fields)


def _draft(path: Path, fields: Mapping[str, object]) -> Path:
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with draft.open("wb") as file:
        file.write(json.dumps(fields).encode())
        file.flush()
        os.fsync(file.fileno())
    return draft


def _overwrite(path: Path, content: bytes) -> None:
    """Replaces the content of a file by a shorter one, in the room that the file has."""
    with path.open("rb+", buffering=0) as file:
        file.write(content)
        file.truncate()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
