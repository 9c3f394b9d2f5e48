"""One job in its own process: claims the job, runs Airflow's supervisor, writes how the job ended."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypedDict

from edge_worker.task_host import job_files, supervise
from edge_worker.task_host.job_files import Result
from edge_worker.task_host.lease import LEASE
from edge_worker.task_host.protocol import JobRequest, RunRequest, Workload
from edge_worker.task_host.supervise import SupervisorContext
from edge_worker.task_host.supervision import job_process, packages
from edge_worker.task_host.supervision.fence import Guard, SupervisorFence, end_descendants

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
    # The fork that runs user code has the lock open as well.
    return job_process.run(request["job"]["id"], job_dir, ready, lambda _: _result(request, job_dir, settings))


def _result(request: RunRequest, job_dir: Path, settings: Settings) -> Result:
    job = request["job"]
    fence = SupervisorFence(
        Path(settings.gateway_socket).with_name(LEASE), job["offline"], partial(job_process.log_best_effort, job_dir)
    )
    guard = Guard(fence, settings.gateway_socket)
    context = SupervisorContext(job_dir, settings.gateway_socket, guard, request["log_max_bytes"])
    result = Result(exit_code=None, final_state=None, error=None)
    try:
        os.environ.update(_environment(job, job_dir, _folders(request, settings)))
        if request["packages"] is not None:
            packages.add(Path(request["packages"]))
        result = supervise.run(job, context)
    except Exception as error:  # noqa: BLE001 (every error ends this job, and is shown)
        # A supervisor that failed halfway leaves user code behind, which no other process would end.
        end_descendants()
        if fence.end_reason is None:
            text = _describe(error)
            job_process.log_best_effort(job_dir, f"{supervise.noun(job)} could not be run: {text}")
            result = Result(exit_code=1, final_state=None, error=text)
    finally:
        guard.stop()
        if fence.end_reason is not None:
            end_descendants()
    # The exit code of a job that the fence has ended has no meaning: the job did not end by itself.
    return result if fence.end_reason is None else replace(result, exit_code=None, error=fence.end_reason)


def _environment(job: JobRequest, job_dir: Path, bundles: Mapping[str, str]) -> dict[str, str]:
    """The variables that differ between jobs. Airflow reads each of them when it needs it, not when it is imported."""
    return {
        job_files.JOB_MARK: job["id"],
        "AIRFLOW__CORE__EXECUTOR": job["core_executor"],
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(_bundles(job["workload"], bundles)),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(job_dir),
    }


def _folders(request: RunRequest, settings: Settings) -> Mapping[str, str]:
    """The folder of each DAG bundle. The published version that a job names replaces the owner's folder for it."""
    code, workload = request["code"], request["job"]["workload"]
    if code is None or "bundle_info" not in workload:
        return settings.bundles
    return {workload["bundle_info"]["name"]: code}


def _bundles(workload: Workload, bundles: Mapping[str, str]) -> list[BundleSettings]:
    """The bundle that the job needs; a connection test needs none."""
    if "bundle_info" not in workload:
        return []
    name = workload["bundle_info"]["name"]
    folder = bundles.get(name)
    if folder is None:
        known = ", ".join(sorted(bundles)) or "none"
        raise Unrunnable(
            f"DAG bundle {name!r} is neither published nor mapped to a folder on this worker (mapped: {known})"
        )
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
