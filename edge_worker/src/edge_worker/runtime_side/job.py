"""One job in its own process: take it, run Airflow's supervisor, write down how it ended."""

import ctypes
import inspect
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_worker.runtime_side import calls, job_files
from edge_worker.runtime_side.job_files import Result
from edge_worker.runtime_side.pump import OutputPump

_PR_SET_CHILD_SUBREAPER = 36
_MAX_ERROR_CHARS = 500
_LOCAL_BUNDLE = "airflow.dag_processing.bundles.local.LocalDagBundle"


@dataclass(frozen=True)
class Settings:
    """What holds for every job of a task host.

    Attributes:
        gateway_socket: The Unix socket of the agent's local gateway.
        bundles: The local folder of each DAG bundle, by the bundle's name.
    """

    gateway_socket: str
    bundles: Mapping[str, str]


class Unrunnable(Exception):
    """The job cannot run on this worker as it is set up; the text says what to change."""


def run(request: Mapping[str, Any], settings: Settings, ready: int) -> int:
    """Run a job in a process that was forked for it, and return the process's exit status.

    Args:
        request: `job` (`id`, `workload`, `core_executor`) and `dir`, the job's folder.
        settings: Of the task host.
        ready: Descriptor to which one JSON object is written once it is decided whether the job runs here.
    """
    job_dir = Path(request["dir"])
    job_id: str = request["job"]["id"]
    os.setsid()
    _adopt_orphans()
    lock = job_files.hold_lock(job_dir)
    if lock is None or not job_files.take(job_dir, job_files.myself(job_id)):
        _answer(ready, {"ok": False, "reason": "this job was already started here"})
        return 1
    _answer(ready, {"ok": True})
    _redirect_output(job_dir)
    result = _result(request["job"], job_dir, settings)
    sys.stdout.flush()
    job_files.write_result(job_dir, result)
    job_files.release_lock(lock)
    return 0


def _answer(ready: int, answer: Mapping[str, Any]) -> None:
    os.write(ready, json.dumps(answer).encode())
    os.close(ready)


def _adopt_orphans() -> None:
    """Have processes that user code leaves behind become children of this one, where a stop finds them (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _redirect_output(job_dir: Path) -> None:
    log = os.open(job_dir / job_files.SUPERVISOR_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _result(job: Mapping[str, Any], job_dir: Path, settings: Settings) -> Result:
    try:
        os.environ.update(_environment(job, job_dir, settings.bundles))
        return _supervise(job, settings)
    except Exception as error:  # noqa: BLE001 (whatever went wrong is this job's end, and is shown)
        text = _describe(error)
        job_files.write_log_line(job_dir, f"The task could not be run: {text}")
        return Result(exit_code=1, final_state=None, error=text)


def _environment(job: Mapping[str, Any], job_dir: Path, bundles: Mapping[str, str]) -> dict[str, str]:
    """What differs from job to job; Airflow reads all of it when it needs it, not when it is imported."""
    name: str = job["workload"]["bundle_info"]["name"]
    folder = bundles.get(name)
    if folder is None:
        known = ", ".join(sorted(bundles)) or "none"
        raise Unrunnable(f"DAG bundle {name!r} is not mapped to a folder on this worker (mapped: {known})")
    if not Path(folder).is_dir():
        raise Unrunnable(f"DAG bundle {name!r} is mapped to {folder}, which is not a folder")
    bundle = {"name": name, "classpath": _LOCAL_BUNDLE, "kwargs": {"path": folder}}
    return {
        job_files.JOB_MARK: job["id"],
        "AIRFLOW__CORE__EXECUTOR": job["core_executor"],
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(job_dir),
    }


def _supervise(job: Mapping[str, Any], settings: Settings) -> Result:
    from airflow.sdk.api.client import Client
    from airflow.sdk.api.datamodels._generated import BundleInfo, TaskInstance
    from airflow.sdk.execution_time import supervisor

    workload = job["workload"]
    pump = OutputPump()
    pump.install(supervisor.ActivitySubprocess)
    client = Client(
        base_url=f"http://gateway/jobs/{job['id']}/execution/",
        token="none",  # noqa: S106 (the centre attaches one to each call)
        timeout=calls.gateway_timeout(),
        transport=calls.WaitingTransport(settings.gateway_socket, pump),
    )
    arguments: dict[str, Any] = {
        "ti": TaskInstance.model_validate(workload["ti"]),
        "bundle_info": BundleInfo.model_validate(workload["bundle_info"]),
        "dag_rel_path": workload["dag_rel_path"],
        "token": "none",
        "log_path": job_files.TASK_LOG,
        "client": client,
        "sentry_integration": workload.get("sentry_integration") or "",
    }
    # Called `supervise` before Airflow 3.3, and with fewer arguments.
    supervise: Any = getattr(supervisor, "supervise_task", None) or supervisor.supervise
    known = inspect.signature(supervise).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        arguments = {name: value for name, value in arguments.items() if name in known}
    code = supervise(**arguments)
    return Result(exit_code=_exit_code(code), final_state=_final_state(pump.process), error=None)


def _exit_code(code: object) -> int | None:
    """The SDK gives a number, or a negative signal that is no plain number."""
    if isinstance(code, signal.Signals):
        return -abs(int(code))
    return int(code) if isinstance(code, int) else None


def _final_state(process: Any) -> str | None:
    state = getattr(process, "final_state", None)
    return None if state is None else str(getattr(state, "value", state))


def _describe(error: Exception) -> str:
    """One line for people, with what Airflow answered if it refused the task, and without secrets it told us."""
    if isinstance(error, Unrunnable):
        return str(error)
    text = f"{type(error).__name__}: {error}"
    detail = getattr(error, "detail", None)
    if detail is not None:
        text += f" ({detail})"
    from airflow.sdk import log

    redact = getattr(log, "redact", None) or (lambda _: type(error).__name__)
    return " ".join(str(redact(text)).split())[:_MAX_ERROR_CHARS]
