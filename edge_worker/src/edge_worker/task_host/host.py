"""The task host: a process that has Airflow imported and forks once per job.

Agents send it requests over a Unix socket (`protocol`). The host has a single thread and no event loop, because each
fork inherits everything that the host has.
"""

import contextlib
import fcntl
import json
import logging
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, cast

from edge_worker.task_host import job
from edge_worker.task_host.preload import preload
from edge_worker.task_host.protocol import Connection, Endpoint, LaunchAnswer, Request, RunRequest, listen

ALREADY_RUNNING = 3
"""Exit status: another host serves this socket."""

_log = logging.getLogger("edge_worker.task_host")


@dataclass(frozen=True)
class HostSettings:
    """Read as JSON from standard input, so that they do not show in the list of processes.

    Attributes:
        socket: Where to listen; only the worker's user can enter its folder.
        hostname: What Airflow receives as the hostname.
        idle_exit_s: The host ends after so long without a job and without a connection.
    """

    socket: str
    hostname: str
    gateway_socket: str
    bundles: dict[str, str]
    idle_exit_s: float


class SignalPipe:
    """Makes signals readable for a selector."""

    def __init__(self) -> None:
        self.reader, self._writer = socket.socketpair()

    def catch(self, on_sigterm: Callable[[], None]) -> None:
        """Handles SIGCHLD and SIGTERM from now on."""
        for end in (self.reader, self._writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.signal(signal.SIGTERM, lambda _number, _frame: on_sigterm())

    def drain(self) -> None:
        """Reads all that has arrived."""
        with contextlib.suppress(BlockingIOError):
            while self.reader.recv(4096):
                pass

    def close(self) -> None:
        """Closes both ends."""
        self.reader.close()
        self._writer.close()

    @staticmethod
    def reset() -> None:
        """Restores the handling that a new process has."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)


@dataclass
class Launch:
    """A request to run a job, until it is known whether the job's process has its lock."""

    connection: Connection
    request_id: int

    def pass_answer(self, ready: int) -> None:
        """Passes on what the job's process has written about its start, and closes the descriptor."""
        with os.fdopen(ready, "rb") as pipe:
            text = pipe.read(65536)
        answer: LaunchAnswer = {"ok": False, "reason": "the job's process died before it took its lock"}
        if text:
            answer = json.loads(text)
        self.connection.send({"id": self.request_id, **answer})


class Host:
    """Listens, forks, and reads the exit status of forks."""

    def __init__(self, settings: HostSettings, airflow: str, endpoint: Endpoint) -> None:
        self._settings = settings
        self._airflow = airflow
        self._endpoint = endpoint
        self._selector = selectors.DefaultSelector()
        self._connections: set[Connection] = set()
        self._jobs: dict[int, str] = {}
        self._launches: dict[int, Launch] = {}
        self._idle_since = time.monotonic()
        self._signals = SignalPipe()
        self._retiring = False

    def serve(self) -> None:
        """Runs until retired and without jobs, or idle for too long."""
        self._signals.catch(self._retire)
        self._selector.register(self._endpoint.listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._signals.reader, selectors.EVENT_READ, self._reap)
        while not self._is_done():
            for key, _ in self._selector.select(timeout=self._settings.idle_exit_s):
                handler: Callable[[], None] = key.data
                handler()
            if self._retiring:
                self._stop_listening()
        self._stop_listening()

    def _is_done(self) -> bool:
        if self._jobs:
            return False
        if self._retiring:
            return True
        if self._connections:
            self._idle_since = time.monotonic()
        return time.monotonic() - self._idle_since >= self._settings.idle_exit_s

    def _retire(self) -> None:
        self._retiring = True

    def _stop_listening(self) -> None:
        if self._endpoint.is_open:
            self._selector.unregister(self._endpoint.listener)
            self._endpoint.close()

    def _accept(self) -> None:
        sock, _ = self._endpoint.listener.accept()
        sock.setblocking(False)
        connection = Connection(sock)
        self._connections.add(connection)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._read(connection))

    def _read(self, connection: Connection) -> None:
        lines = connection.lines()
        if lines is None:
            self._drop(connection)
            return
        for line in lines:
            try:
                self._handle(connection, json.loads(line))
            except (KeyError, TypeError, ValueError):
                _log.exception("an agent sent a line that is not a request")
                self._drop(connection)
                return

    def _drop(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._selector.unregister(connection.sock)
        connection.sock.close()
        self._idle_since = time.monotonic()

    def _handle(self, connection: Connection, request: Request) -> None:
        match request["op"]:
            case "hello":
                connection.send({"airflow": self._airflow, "pid": os.getpid()})
            case "retire":
                self._retire()
            case "run" if self._retiring:
                connection.send({"id": request["id"], "ok": False, "reason": "the task host is retiring"})
            case "run":
                self._run(connection, cast("RunRequest", request))
            case unknown:
                msg = f"unknown op {unknown!r}"
                raise ValueError(msg)

    def _run(self, connection: Connection, request: RunRequest) -> None:
        ready, ready_writer = os.pipe()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(ready)
            os.close(ready_writer)
            connection.send({"id": request["id"], "ok": False, "reason": f"cannot fork: {error.strerror}"})
            return
        if pid == 0:
            os.close(ready)
            self._run_in_fork(request, ready_writer)
        os.close(ready_writer)
        self._jobs[pid] = request["dir"]
        self._launches[ready] = Launch(connection, request["id"])
        self._selector.register(ready, selectors.EVENT_READ, lambda: self._answer_launch(ready))

    def _run_in_fork(self, request: RunRequest, ready: int) -> NoReturn:
        """Turns the forked process into the job's supervisor; nothing of the host may remain open in it."""
        status = 1
        try:
            self._close_in_fork()
            settings = job.Settings(self._settings.gateway_socket, self._settings.bundles)
            status = job.run(request, settings, ready)
        except BaseException:  # noqa: BLE001 (a fork must never return into the host's loop)
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _close_in_fork(self) -> None:
        self._signals.reset()
        self._selector.close()
        for descriptor in self._launches:
            os.close(descriptor)
        for connection in self._connections:
            connection.sock.close()
        self._signals.close()
        if self._endpoint.is_open:
            self._endpoint.close_in_fork()

    def _answer_launch(self, ready: int) -> None:
        self._selector.unregister(ready)
        self._launches.pop(ready).pass_answer(ready)

    def _reap(self) -> None:
        self._signals.drain()
        while self._jobs:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            job_dir = self._jobs.pop(pid, None)
            self._idle_since = time.monotonic()
            for connection in self._connections if job_dir is not None else ():
                connection.send({"exited": job_dir})


def main() -> int:
    """Runs a task host. Standard input contains the settings and nothing else.

    Returns:
        The exit status; `ALREADY_RUNNING` if there is a host for this socket.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    settings = HostSettings(**json.load(sys.stdin))
    _close_stdin()
    # Where user code starts; not the agent's folder, which may be removed.
    os.chdir(os.environ["AIRFLOW_HOME"])
    lock = os.open(f"{settings.socket}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return ALREADY_RUNNING
    airflow = preload(settings.hostname)
    path = Path(settings.socket)
    Host(settings, airflow, Endpoint(path, listen(path), lock)).serve()
    return 0


def _close_stdin() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
