"""The files by which agent, task host and a task's processes agree about one job.

A job's folder holds:

* `lock`: held (`flock`) by the supervisor from before its first deed to its end, and by the user code it forks.
* `pid.json`: who took the job; made once, never replaced. Whoever makes it decides whether the job runs here.
* `result.json`: how the job ended; written once, complete or not at all.
* `task.log`: the task's log as Airflow shows it (`log_file`). `supervisor.log`: what the supervisor itself had to say.

No wait status of a parent is needed to know whether a job runs or how it ended, so agent and host may die at any time.
"""

import contextlib
import fcntl
import json
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LOCK = "lock"
PID = "pid.json"
RESULT = "result.json"
TASK_LOG = "task.log"
SUPERVISOR_LOG = "supervisor.log"

JOB_MARK = "EDGE_RELAY_JOB"
"""Environment variable with the job's id; it finds processes that have left the job's process tree."""

_RESERVE = ".result.reserve"
_RESERVE_BYTES = 4096
"""Far more than a result has."""
_LOCK_TRIES = 100
_LOCK_PAUSE_S = 0.02
_PROC = Path("/proc")


@dataclass(frozen=True)
class Taken:
    """The content of `pid.json`.

    Attributes:
        pid: The supervisor; 0 if the agent has ruled that the job never starts here.
        start: Its start time in clock ticks since boot, so that a reused pid is not taken for it; 0 where unknown.
        boot: Names the boot that pid and start belong to.
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
        final_state: The state that the supervisor believes the task to be in.
        error: Why the supervisor itself failed, for people.
    """

    exit_code: int | None
    final_state: str | None
    error: str | None


def myself(job: str) -> Taken:
    """The calling process as the one that takes a job."""
    return Taken(job=job, pid=os.getpid(), start=start_time(os.getpid()) or 0, boot=boot_id())


def nobody(job: str) -> Taken:
    """What the agent writes to rule that a job never starts here."""
    return Taken(job=job, pid=0, start=0, boot=boot_id())


def take(job_dir: Path, taken: Taken) -> bool:
    """Make `pid.json`. False if it is there already: somebody else has decided."""
    draft = _draft(job_dir / PID, asdict(taken))
    try:
        os.link(draft, job_dir / PID)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    _sync_folder(job_dir)
    return True


def read_taken(job_dir: Path) -> Taken | None:
    """The content of `pid.json`; None if nobody has taken the job."""
    fields = _read(job_dir / PID)
    return None if fields is None else Taken(**fields)


def write_result(job_dir: Path, result: Result) -> None:
    """Write `result.json` so that a reader, or the next boot, sees all of it or nothing."""
    reserve = job_dir / _RESERVE
    if reserve.exists():
        _overwrite(reserve, json.dumps(asdict(result)).encode())
        reserve.replace(job_dir / RESULT)
    else:
        _draft(job_dir / RESULT, asdict(result)).replace(job_dir / RESULT)
    _sync_folder(job_dir)


def reserve_result(job_dir: Path) -> None:
    """Take the room for `result.json` before the job starts: it may fill the disk.

    Raises:
        OSError: The disk is full already.
    """
    (job_dir / _RESERVE).write_bytes(bytes(_RESERVE_BYTES))


def read_result(job_dir: Path) -> Result | None:
    """The content of `result.json`; None if there is none."""
    fields = _read(job_dir / RESULT)
    return None if fields is None else Result(**fields)


def hold_lock(job_dir: Path) -> int | None:
    """Take the job's lock for as long as the returned descriptor, or a copy of it in a fork, is open.

    None if somebody else holds it. A probe by `is_locked` may hold it for an instant, hence the repeats.
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
    """Free the lock for all that share it, so that a process left behind by user code does not keep the job alive."""
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
    """Add a line to the task's log in the form that Airflow's log view reads."""
    log = os.open(job_dir / TASK_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(log, log_line(event, level))
    finally:
        os.close(log)


def log_line(event: str, level: str) -> bytes:
    """A line in the form that Airflow's log view reads."""
    stamp = datetime.now(tz=UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({"timestamp": stamp, "level": level, "event": event, "logger": "task"}).encode() + b"\n"


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is no such process or no /proc."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[19])


def boot_id() -> str:
    """Names the current boot of the machine; empty where the kernel does not tell."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _read(path: Path) -> dict[str, Any] | None:
    try:
        fields: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return fields


def _draft(path: Path, fields: Mapping[str, Any]) -> Path:
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with draft.open("wb") as file:
        file.write(json.dumps(fields).encode())
        file.flush()
        os.fsync(file.fileno())
    return draft


def _overwrite(path: Path, content: bytes) -> None:
    """Replace the content of a file by a shorter one, in the room it has."""
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
