"""The three kinds of work that Airflow hands to an executor, each run by the SDK's own supervisor for it."""

import importlib
import inspect
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

from edge_worker.task_host import calls, job_files
from edge_worker.task_host.fence import Guard
from edge_worker.task_host.job_files import Result
from edge_worker.task_host.log_file import CappedLog
from edge_worker.task_host.memory import MemoryWatch
from edge_worker.task_host.output_drain import OutputPump

_TASK, _CALLBACK, _CONNECTION_TEST = "ExecuteTask", "ExecuteCallback", "TestConnection"
_NOUNS = {_TASK: "The task", _CALLBACK: "The callback", _CONNECTION_TEST: "The connection test"}


@dataclass
class SupervisorContext:
    """What stands around the SDK's supervisor of one job.

    Attributes:
        guard: Sees to it that the job does not go on for too long while no agent answers.
        log_max_bytes: The most that the task's log takes on disk.
    """

    job_dir: Path
    gateway_socket: str
    guard: Guard
    log_max_bytes: int
    output_drain: OutputPump = field(default_factory=OutputPump)
    memory: MemoryWatch = field(default_factory=MemoryWatch)

    def client(self, job_id: str) -> Any:
        """An SDK client whose calls go to the local gateway."""
        from airflow.sdk.api.client import Client

        return Client(
            base_url=f"http://gateway/jobs/{job_id}/execution/",
            token="none",  # noqa: S106 (the centre attaches one to each call)
            timeout=calls.gateway_timeout(),
            transport=calls.WaitingTransport(self.gateway_socket, self.output_drain, self.guard),
        )


def noun(job: Mapping[str, Any]) -> str:
    """What a job is to people, at the beginning of a sentence."""
    return _NOUNS[_kind(job)]


def run(job: Mapping[str, Any], attendance: SupervisorContext) -> Result:
    """Run a job to its end.

    Raises:
        Exception: It could not be run, or its supervisor failed.
    """
    _keep_log_small(attendance)
    work = {_TASK: _run_task, _CALLBACK: _run_callback, _CONNECTION_TEST: _run_connection_test}
    result = work[_kind(job)](job, attendance)
    if result.exit_code == -signal.SIGKILL:
        text = attendance.memory.explain_kill()
        job_files.write_log_line(attendance.job_dir, f"{noun(job)} was ended by SIGKILL{text}")
        return Result(result.exit_code, result.final_state, f"the process was ended by SIGKILL{text}")
    return result


def _kind(job: Mapping[str, Any]) -> str:
    kind: str = job["workload"].get("type", _TASK)
    return kind


def _run_task(job: Mapping[str, Any], attendance: SupervisorContext) -> Result:
    from airflow.sdk.api.datamodels._generated import BundleInfo, TaskInstance
    from airflow.sdk.execution_time import supervisor

    workload = job["workload"]
    attendance.output_drain.install(supervisor.ActivitySubprocess, "_on_child_started", attendance.guard.start)
    arguments: dict[str, Any] = {
        "ti": TaskInstance.model_validate(workload["ti"]),
        "bundle_info": BundleInfo.model_validate(workload["bundle_info"]),
        "dag_rel_path": workload["dag_rel_path"],
        "token": "none",
        "log_path": job_files.TASK_LOG,
        "client": attendance.client(job["id"]),
        "sentry_integration": workload.get("sentry_integration") or "",
    }
    # Called `supervise` before Airflow 3.3, and with fewer arguments.
    supervise: Any = getattr(supervisor, "supervise_task", None) or supervisor.supervise
    known = inspect.signature(supervise).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        arguments = {name: value for name, value in arguments.items() if name in known}
    code = supervise(**arguments)
    return Result(exit_code=_exit_code(code), final_state=_final_state(attendance.output_drain.process), error=None)


def _run_callback(job: Mapping[str, Any], attendance: SupervisorContext) -> Result:
    from airflow.sdk.api.datamodels._generated import BundleInfo

    callback_supervisor: Any = importlib.import_module("airflow.sdk.execution_time.callback_supervisor")
    workload = job["workload"]
    callback = workload["callback"]
    # It asks for nothing before it waits for the process.
    attendance.output_drain.install(callback_supervisor.CallbackSubprocess, "wait", attendance.guard.start)
    try:
        callback_supervisor.supervise_callback(
            id=callback["id"],
            callback_path=callback["data"].get("path", ""),
            callback_kwargs=callback["data"].get("kwargs") or {},
            dag_rel_path=Path(workload["dag_rel_path"]),
            log_path=job_files.TASK_LOG,
            bundle_info=BundleInfo.model_validate(workload["bundle_info"]),
            token="none",  # noqa: S106 (as for a task)
            client=attendance.client(job["id"]),
        )
    except RuntimeError:
        # Raised for any status but 0; the log says what has gone wrong.
        code = _exit_code(getattr(attendance.output_drain.process, "_exit_code", None))
        if not code:
            raise
        return Result(exit_code=code, final_state=None, error=None)
    return Result(exit_code=0, final_state=None, error=None)


def _run_connection_test(job: Mapping[str, Any], attendance: SupervisorContext) -> Result:
    """In a process of its own: a hook is code of others, which may crash or hang."""
    pid = os.fork()
    if pid == 0:
        _become_connection_test(job, attendance)
    attendance.guard.start()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Result(exit_code=code, final_state=None, error=None)


def _become_connection_test(job: Mapping[str, Any], attendance: SupervisorContext) -> NoReturn:
    status = 1
    try:
        os.setpgid(0, 0)
        test: Any = importlib.import_module("airflow.sdk.execution_time.connection_test_supervisor")
        workload = job["workload"]
        # It takes no client, but makes one.
        test.Client = lambda **_: attendance.client(job["id"])
        status = test.supervise_connection_test(
            connection_test_id=UUID(workload["connection_test_id"]),
            connection_id=workload["connection_id"],
            timeout=workload["timeout"],
            token="none",  # noqa: S106 (as for a task)
            server="http://gateway/",
        )
    except BaseException:  # noqa: BLE001 (a fork must never return into the supervisor)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _keep_log_small(attendance: SupervisorContext) -> None:
    """Have the SDK write the task's log through our file, which neither grows without limit nor fails.

    It opens what `init_log_file` returns. Where that is no longer so, the log is as the SDK writes it.
    """
    log: Any = importlib.import_module("airflow.sdk.log")
    original = getattr(log, "init_log_file", None)
    if original is not None:
        log.init_log_file = lambda name: _LogPath(original(name), attendance.log_max_bytes)


class _LogPath:
    """As much of a path as the SDK uses of its log file."""

    def __init__(self, path: Path, keep_bytes: int) -> None:
        self._path = path
        self._keep_bytes = keep_bytes

    def open(self, mode: str, **options: Any) -> Any:
        return CappedLog(self._path, self._keep_bytes) if mode == "ab" else self._path.open(mode, **options)


def _exit_code(code: object) -> int | None:
    """The SDK gives a number, or a negative signal that is no plain number."""
    if isinstance(code, signal.Signals):
        return -abs(int(code))
    return int(code) if isinstance(code, int) else None


def _final_state(process: Any) -> str | None:
    state = getattr(process, "final_state", None)
    return None if state is None else str(getattr(state, "value", state))
