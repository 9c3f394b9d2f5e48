"""The three kinds of work that Airflow passes to an executor, each run by the SDK's own supervisor for it."""

import importlib
import inspect
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from uuid import UUID

from edge_worker.task_host import calls, job_files
from edge_worker.task_host.job_files import Result
from edge_worker.task_host.log_file import CappedLog
from edge_worker.task_host.output_drain import OutputDrain
from edge_worker.task_host.protocol import JobRequest
from edge_worker.task_host.supervision.fence import Guard, names_of_descendants
from edge_worker.task_host.supervision.memory import MemoryWatch
from edge_worker.task_host.user_code import last_resorts

if TYPE_CHECKING:
    from airflow.sdk.api.client import Client

_TASK, _CALLBACK, _CONNECTION_TEST = "ExecuteTask", "ExecuteCallback", "TestConnection"
_NOUNS = {_TASK: "The task", _CALLBACK: "The callback", _CONNECTION_TEST: "The connection test"}

_NAME_AFTER_S = 2.0
_NAMED = 5


@dataclass
class SupervisorContext:
    """What the SDK's supervisor of one job needs from the task host.

    Attributes:
        guard: Ends the job at its fence while no agent answers.
        log_max_bytes: The most that the task's log takes on disk.
    """

    job_dir: Path
    gateway_socket: str
    guard: Guard
    log_max_bytes: int
    output_drain: OutputDrain = field(default_factory=OutputDrain)
    memory: MemoryWatch = field(default_factory=MemoryWatch)

    def client(self, job_id: str) -> "Client":
        """An SDK client whose calls go to the local gateway."""
        from airflow.sdk.api.client import Client

        return Client(
            base_url=f"http://gateway/jobs/{job_id}/execution/",
            token="none",  # noqa: S106 (the centre attaches one to each call)
            timeout=calls.gateway_timeout(),
            transport=calls.WaitingTransport(self.gateway_socket, self.output_drain, self.guard, self._log),
        )

    def on_exit(self) -> None:
        """The task's own process has exited. The SDK's supervisor still waits while others keep its output open."""
        with suppress(OSError):  # without the file, the job uses its slot until the supervisor has ended, too
            job_files.mark_exited(self.job_dir)
        late = threading.Timer(_NAME_AFTER_S, self._name_what_still_runs)
        late.daemon = True
        late.start()

    def _name_what_still_runs(self) -> None:
        if names := names_of_descendants():
            shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
            self._log(
                f"The task's process has ended, but processes that it started still run: {shown}. "
                "Its log stays open while they keep the output open, at most for [workers] socket_cleanup_timeout"
            )

    def _log(self, text: str) -> None:
        """Writes a line to the task's log, if the disk has room."""
        with suppress(OSError):
            job_files.write_log_line(self.job_dir, text, level="warning")


def noun(job: JobRequest) -> str:
    """The name of a job's kind, at the beginning of a sentence."""
    return _NOUNS[_kind(job)]


def run(job: JobRequest, context: SupervisorContext) -> Result:
    """Runs a job to its end.

    Raises:
        Exception: It could not be run, or its supervisor failed.
    """
    _keep_log_small(context)
    work = {_TASK: _run_task, _CALLBACK: _run_callback, _CONNECTION_TEST: _run_connection_test}
    result = work[_kind(job)](job, context)
    if result.exit_code == -signal.SIGKILL:
        text = context.memory.explain_kill()
        job_files.write_log_line(context.job_dir, f"{noun(job)} was ended by SIGKILL{text}")
        return Result(result.exit_code, result.final_state, f"the process was ended by SIGKILL{text}")
    return result


def _kind(job: JobRequest) -> str:
    return job["workload"].get("type", _TASK)


def _run_task(job: JobRequest, context: SupervisorContext) -> Result:
    from airflow.sdk.api.datamodels._generated import BundleInfo, TaskInstance
    from airflow.sdk.execution_time import supervisor

    workload = job["workload"]
    last_resorts.install()
    context.output_drain.install(
        supervisor.ActivitySubprocess, "_on_child_started", context.guard.start, context.on_exit
    )
    arguments: dict[str, object] = {
        "ti": TaskInstance.model_validate(workload["ti"]),
        "bundle_info": BundleInfo.model_validate(workload["bundle_info"]),
        "dag_rel_path": workload["dag_rel_path"],
        "token": "none",
        "log_path": job_files.TASK_LOG,
        "client": context.client(job["id"]),
        "sentry_integration": workload.get("sentry_integration") or "",
    }
    # Before Airflow 3.3 the function is `supervise`, with fewer arguments.
    supervise: Callable[..., object] = getattr(supervisor, "supervise_task", None) or supervisor.supervise
    known = inspect.signature(supervise).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        arguments = {name: value for name, value in arguments.items() if name in known}
    code = supervise(**arguments)
    return Result(exit_code=_exit_code(code), final_state=_final_state(context.output_drain.process), error=None)


def _run_callback(job: JobRequest, context: SupervisorContext) -> Result:
    from airflow.sdk.api.datamodels._generated import BundleInfo

    callback_supervisor = importlib.import_module("airflow.sdk.execution_time.callback_supervisor")
    workload = job["workload"]
    callback = workload["callback"]
    # It makes no calls before it waits for the process.
    context.output_drain.install(callback_supervisor.CallbackSubprocess, "wait", context.guard.start, context.on_exit)
    try:
        callback_supervisor.supervise_callback(
            id=callback["id"],
            callback_path=callback["data"].get("path", ""),
            callback_kwargs=callback["data"].get("kwargs") or {},
            dag_rel_path=Path(workload["dag_rel_path"]),
            log_path=job_files.TASK_LOG,
            bundle_info=BundleInfo.model_validate(workload["bundle_info"]),
            token="none",  # noqa: S106 (as for a task)
            client=context.client(job["id"]),
        )
    except RuntimeError:
        # Raised for any status except 0; the cause is in the log.
        code = _exit_code(getattr(context.output_drain.process, "_exit_code", None))
        if not code:
            raise
        return Result(exit_code=code, final_state=None, error=None)
    return Result(exit_code=0, final_state=None, error=None)


def _run_connection_test(job: JobRequest, context: SupervisorContext) -> Result:
    """Runs the test in a process of its own: a hook is third-party code, which may crash or hang."""
    pid = os.fork()
    if pid == 0:
        _become_connection_test(job, context)
    context.guard.start()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Result(exit_code=code, final_state=None, error=None)


def _become_connection_test(job: JobRequest, context: SupervisorContext) -> NoReturn:
    status = 1
    try:
        os.setpgid(0, 0)
        test = importlib.import_module("airflow.sdk.execution_time.connection_test_supervisor")
        workload = job["workload"]
        # It accepts no client, but creates one.
        vars(test)["Client"] = lambda **_: context.client(job["id"])
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


def _keep_log_small(context: SupervisorContext) -> None:
    """Makes the SDK write the task's log through `CappedLog`, which neither grows without limit nor fails.

    The SDK opens what `init_log_file` returns. If a later SDK no longer does, the log is as the SDK writes it.
    """
    log = importlib.import_module("airflow.sdk.log")
    original = getattr(log, "init_log_file", None)
    if original is not None:
        vars(log)["init_log_file"] = lambda name: _LogPath(original(name), context.log_max_bytes)


class _LogPath:
    """The part of a path that the SDK uses of its log file."""

    def __init__(self, path: Path, keep_bytes: int) -> None:
        self._path = path
        self._keep_bytes = keep_bytes

    def open(
        self,
        mode: str,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> object:
        if mode == "ab":
            return CappedLog(self._path, self._keep_bytes)
        return self._path.open(mode, buffering, encoding, errors, newline)


def _exit_code(code: object) -> int | None:
    """The SDK returns a number, or a signal, which counts as negative."""
    if isinstance(code, signal.Signals):
        return -abs(int(code))
    return int(code) if isinstance(code, int) else None


def _final_state(process: object) -> str | None:
    state = getattr(process, "final_state", None)
    return None if state is None else str(getattr(state, "value", state))
