"""The process of one job: claims the job, has it run, writes how it ended."""

import contextlib
import ctypes
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from edge_worker.task_host import job_files
from edge_worker.task_host.job_files import Result
from edge_worker.task_host.protocol import LaunchAnswer

_PR_SET_CHILD_SUBREAPER = 36


def run(job: str, job_dir: Path, ready: int, work: Callable[[int], Result]) -> int:
    """Runs a job in a process of its own, and returns the process's exit status.

    Args:
        job: Its id.
        job_dir: Its folder.
        ready: Descriptor for the answer, one JSON object, once it is decided whether the job runs here.
        work: Runs the job to its end; must not raise. Called with the descriptor of the job's lock: while a process
            has it open, the job counts as alive.
    """
    os.setsid()
    _become_subreaper()
    try:
        lock = _claim(job_dir, job)
    except OSError as error:
        reason = f"the job's folder cannot be written: {error.strerror}"
        _answer(ready, {"ok": False, "reason": reason, "releases": True})
        return 1
    if lock is None:
        _answer(ready, {"ok": False, "reason": "this job was already started here"})
        return 1
    _answer(ready, {"ok": True})
    _redirect_output(job_dir)
    result = work(lock)
    sys.stdout.flush()
    job_files.write_result(job_dir, result)
    job_files.release_lock(lock)
    return 0


def log_best_effort(job_dir: Path, text: str) -> None:
    """Writes a line to the job's log, if the disk has room."""
    with contextlib.suppress(OSError):
        job_files.write_log_line(job_dir, text)


def _claim(job_dir: Path, job: str) -> int | None:
    """The lock of the job, which this process now runs; None if another process has or had it.

    Raises:
        OSError: The disk is full; the job was not claimed.
    """
    lock = job_files.hold_lock(job_dir)
    if lock is None:
        return None
    job_files.reserve_result(job_dir)
    return lock if job_files.claim(job_dir, job_files.this_process(job)) else None


def _answer(ready: int, answer: LaunchAnswer) -> None:
    os.write(ready, json.dumps(answer).encode())
    os.close(ready)


def _become_subreaper() -> None:
    """Makes orphans of user code children of this process, where a stop finds them (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _redirect_output(job_dir: Path) -> None:
    log = os.open(job_dir / job_files.SUPERVISOR_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
