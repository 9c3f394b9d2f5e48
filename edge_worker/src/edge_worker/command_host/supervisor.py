"""Runs one command: claims the job, keeps its output, its time-out and its fence, and writes how it ended."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from edge_worker.command_host.output import OutputStream
from edge_worker.command_host.request import ALIVE, RESULT_FILE, RESULT_VARIABLE, WORK_FOLDER, CommandRequest
from edge_worker.task_host import job_files
from edge_worker.task_host.job_files import Result
from edge_worker.task_host.lease import LEASE
from edge_worker.task_host.log_file import CappedLog
from edge_worker.task_host.supervision import job_process
from edge_worker.task_host.supervision.fence import (
    CHECK_EVERY_S,
    Guard,
    SupervisorFence,
    end_descendants,
    names_of_descendants,
)
from edge_worker.task_host.supervision.memory import MemoryWatch

NOT_FOUND, NOT_EXECUTABLE, TIMED_OUT = 127, 126, 124
"""Exit codes of a command that ended for another reason than its own, as shells use them."""
GRACE_S = 5.0
"""Between SIGTERM and SIGKILL of a command that ran too long, and how long its output may stay open after its end."""


def main() -> int:
    """Runs the command of the request on standard input; the answer goes to standard output, which is then closed.

    Descriptor `ALIVE` stays open until this process ends, and only here: so the agent sees its end at once.
    """
    request = CommandRequest(**json.load(sys.stdin))
    ready = os.dup(1)
    os.set_inheritable(ALIVE, False)
    return job_process.run(request.job, Path(request.dir), ready, partial(_result, request))


def _result(request: CommandRequest, lock: int) -> Result:
    job_dir = Path(request.dir)
    log = partial(job_process.log_best_effort, job_dir)
    fence = SupervisorFence(Path(request.gateway_socket).with_name(LEASE), request.offline, log)
    guard = Guard(fence, request.gateway_socket)
    try:
        result = _run(request, lock, guard)
    except Exception as error:  # noqa: BLE001 (every error ends this job, and is shown)
        result = Result(NOT_EXECUTABLE, None, f"the command could not be run: {type(error).__name__}: {error}")
    finally:
        guard.stop()
        end_descendants()
        _reap()
    if fence.end_reason is not None:
        return Result(exit_code=None, final_state=None, error=fence.end_reason)
    if result.error is not None:
        log(f"Edge worker: {result.error}")
    return result


def _reap(command: int | None = None) -> None:
    """Removes ended orphans, whose parent this process has become, from the process table; the command stays in it."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != command:
            os.waitpid(ended.si_pid, os.WNOHANG)


def _run(request: CommandRequest, lock: int, guard: Guard) -> Result:
    memory = MemoryWatch()
    try:
        process = _start(request, lock)
    except FileNotFoundError as error:
        return Result(NOT_FOUND, None, f"cannot be found: {error.filename}")
    except OSError as error:
        return Result(NOT_EXECUTABLE, None, f"{request.program} cannot be run: {error.strerror}")
    guard.start()
    run = _Run(request, process, guard)
    code, why = run.until_over()
    if code == -signal.SIGKILL and why is None:
        why = f"the command was ended by SIGKILL{memory.explain_kill()}"
    return Result(code, None, why)


def _start(request: CommandRequest, lock: int) -> "subprocess.Popen[bytes]":
    """Starts the command. It has the lock open: so the agent sees that it lives if this process is killed."""
    folder = Path(request.dir)
    if request.cwd is None:
        (folder / WORK_FOLDER).mkdir(mode=0o700, exist_ok=True)
    env = {**request.env, job_files.JOB_MARK: request.job, RESULT_VARIABLE: str(folder / RESULT_FILE)}
    return subprocess.Popen(
        request.argv,
        executable=request.program,
        cwd=request.cwd or folder / WORK_FOLDER,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
        pass_fds=(lock,),
    )


class _Run:
    """A command that was started."""

    def __init__(self, request: CommandRequest, process: "subprocess.Popen[bytes]", guard: Guard) -> None:
        self._request = request
        self._dir = Path(request.dir)
        self._process = process
        self._guard = guard
        self._log = CappedLog(self._dir / job_files.TASK_LOG, request.log_max_bytes)
        self._selector = selectors.DefaultSelector()
        self._deadline = None if request.timeout_s is None else time.monotonic() + request.timeout_s
        self._timed_out_at: float | None = None
        self._is_asked_to_stop = False

    def until_over(self) -> tuple[int, str | None]:
        """Returns the exit code, and why the command did not end by itself."""
        for pipe, name in ((self._process.stdout, "stdout"), (self._process.stderr, "stderr")):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                self._selector.register(pipe, selectors.EVENT_READ, OutputStream(pipe.fileno(), self._log, name))
        while self._process.poll() is None:
            self._move_output(CHECK_EVERY_S)
            self._check()
        with contextlib.suppress(OSError):
            job_files.mark_exited(self._dir)
        self._drain()
        self._log.close()
        if self._timed_out_at is not None:
            return TIMED_OUT, f"the command ran longer than its time-out of {self._request.timeout_s:g} s"
        return self._process.returncode, None

    def _move_output(self, wait_s: float) -> None:
        if not self._selector.get_map():
            time.sleep(wait_s)
            return
        for key, _ in self._selector.select(wait_s):
            stream: OutputStream = key.data
            if not stream.read():
                self._selector.unregister(key.fileobj)

    def _check(self) -> None:
        """Stops a command that ran too long, or whose fence has passed while no agent answers."""
        now = time.monotonic()
        _reap(self._process.pid)
        if self._timed_out_at is not None:
            if now - self._timed_out_at >= GRACE_S:
                end_descendants()
        elif self._deadline is not None and now >= self._deadline:
            self._timed_out_at = now
            self._terminate()
        elif not self._is_asked_to_stop and self._guard.must_stop():
            self._is_asked_to_stop = True
            self._terminate()

    def _terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGTERM)

    def _drain(self) -> None:
        """Reads what is left. What the command has started and left behind ends with it: nothing else could end it."""
        until = time.monotonic() + GRACE_S
        while self._selector.get_map() and time.monotonic() < until:
            self._move_output(CHECK_EVERY_S)
        if names := names_of_descendants():
            job_process.log_best_effort(
                self._dir, f"Edge worker ends what the command has left behind: {', '.join(names[:5])}"
            )
        end_descendants()
        # What is in the pipes by now. A process of another job may have opened them, and print without an end.
        until = time.monotonic() + GRACE_S
        while self._selector.get_map() and self._selector.select(0) and time.monotonic() < until:
            self._move_output(0)
        for key in list(self._selector.get_map().values()):
            stream: OutputStream = key.data
            stream.finish()
