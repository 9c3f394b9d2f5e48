"""One job in its own process: claims the job, runs Airflow's supervisor, writes how the job ended."""

import contextlib
import ctypes
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypedDict

from edge_worker.task_host import job_files, supervise
from edge_worker.task_host.fence import Guard, SupervisorFence, end_descendants
from edge_worker.task_host.job_files import Result
from edge_worker.task_host.lease import LEASE
from edge_worker.task_host.protocol import JobRequest, LaunchAnswer, RunRequest, Workload
from edge_worker.task_host.supervise import SupervisorContext

_PR_SET_CHILD_SUBREAPER = 36
_MAX_ERROR_CHARS = 500
_LOCAL_BUNDLE = "airflow.dag_processing.bundles.local.LocalDagBundle"


@dataclass(frozen=True)
class Settings:
    """What holds for every job of a task host.

    Attributes:
        gateway_socket: The Unix socket of the agent's local gateway; the lease is next to it.
        bundles: The local folder of each DAG bundle, by the bundle's name.
    """

    gateway_socket: str
    bundles: Mapping[str, str]


class Unrunnable(Exception):
    """The job cannot run on this worker as it is set up; the text says what to change."""


class BundleSettings(TypedDict):
    """A DAG bundle as Airflow's configuration names it."""

    name: str
    classpath: str
    kwargs: dict[str, str]


def run(request: RunRequest, settings: Settings, ready: int) -> int:
    """Runs a job in a process that was forked for it, and returns the process's exit status.

    Args:
        request: From the agent.
        settings: Of the task host.
        ready: Descriptor for the answer, one JSON object, once it is decided whether the job runs here.
    """
    job_dir = Path(request["dir"])
    os.setsid()
    _become_subreaper()
    try:
        lock = _claim(job_dir, request["job"]["id"])
    except OSError as error:
        reason = f"the job's folder cannot be written: {error.strerror}"
        _answer(ready, {"ok": False, "reason": reason, "releases": True})
        return 1
    if lock is None:
        _answer(ready, {"ok": False, "reason": "this job was already started here"})
        return 1
    _answer(ready, {"ok": True})
    _redirect_output(job_dir)
    result = _result(request, job_dir, settings)
    sys.stdout.flush()
    job_files.write_result(job_dir, result)
    job_files.release_lock(lock)
    return 0


def _claim(job_dir: Path, job_id: str) -> int | None:
    """The lock of the job, which this process now runs; None if another process has or had it.

    Raises:
        OSError: The disk is full; the job was not claimed.
    """
    lock = job_files.hold_lock(job_dir)
    if lock is None:
        return None
    job_files.reserve_result(job_dir)
    return lock if job_files.claim(job_dir, job_files.this_process(job_id)) else None


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


def _result(request: RunRequest, job_dir: Path, settings: Settings) -> Result:
    job = request["job"]
    fence = SupervisorFence(Path(settings.gateway_socket).with_name(LEASE), job["offline"], partial(_log, job_dir))
    guard = Guard(fence, settings.gateway_socket)
    context = SupervisorContext(job_dir, settings.gateway_socket, guard, request["log_max_bytes"])
    result = Result(exit_code=None, final_state=None, error=None)
    try:
        os.environ.update(_environment(job, job_dir, settings.bundles))
        result = supervise.run(job, context)
    except Exception as error:  # noqa: BLE001 (every error ends this job, and is shown)
        # A supervisor that failed halfway leaves user code behind, which no other process would end.
        end_descendants()
        if fence.end_reason is None:
            text = _describe(error)
            _log(job_dir, f"{supervise.noun(job)} could not be run: {text}")
            result = Result(exit_code=1, final_state=None, error=text)
    finally:
        guard.stop()
        if fence.end_reason is not None:
            end_descendants()
    # The exit code of a job that the fence has ended has no meaning: the job did not end by itself.
    return result if fence.end_reason is None else replace(result, exit_code=None, error=fence.end_reason)


def _log(job_dir: Path, text: str) -> None:
    """Writes a line to the task's log, if the disk has room."""
    with contextlib.suppress(OSError):
        job_files.write_log_line(job_dir, text)


def _environment(job: JobRequest, job_dir: Path, bundles: Mapping[str, str]) -> dict[str, str]:
    """The variables that differ between jobs. Airflow reads each of them when it needs it, not when it is imported."""
    return {
        job_files.JOB_MARK: job["id"],
        "AIRFLOW__CORE__EXECUTOR": job["core_executor"],
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(_bundles(job["workload"], bundles)),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(job_dir),
    }


def _bundles(workload: Workload, bundles: Mapping[str, str]) -> list[BundleSettings]:
    """The bundle that the job needs; a connection test needs none."""
    if "bundle_info" not in workload:
        return []
    name = workload["bundle_info"]["name"]
    folder = bundles.get(name)
    if folder is None:
        known = ", ".join(sorted(bundles)) or "none"
        raise Unrunnable(f"DAG bundle {name!r} is not mapped to a folder on this worker (mapped: {known})")
    if not Path(folder).is_dir():
        raise Unrunnable(f"DAG bundle {name!r} is mapped to {folder}, which is not a folder")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise Unrunnable(f"DAG bundle {name!r} is mapped to {folder}, which the worker's user may not read")
    return [{"name": name, "classpath": _LOCAL_BUNDLE, "kwargs": {"path": folder}}]


def _describe(error: Exception) -> str:
    """One line for people, with Airflow's answer if it refused the task, and with secrets masked."""
    if isinstance(error, Unrunnable):
        return str(error)
    text = f"{type(error).__name__}: {error}"
    detail = getattr(error, "detail", None)
    if detail is not None:
        text += f" ({detail})"
    from airflow.sdk import log

    redact = getattr(log, "redact", None) or (lambda _: type(error).__name__)
    return " ".join(str(redact(text)).split())[:_MAX_ERROR_CHARS]
