"""The task host: a process that has Airflow imported and forks once per job.

It is told what to do over a Unix socket, in JSON objects, one a line:

    {"op": "hello"}                                → {"airflow": "3.3.2", "pid": 4711}
    {"op": "run", "id": 1, "job": {…}, "dir": "…"} → {"id": 1, "ok": true} once the job's process holds its lock,
                                                     or {"id": 1, "ok": false, "reason": "…"}
    {"op": "retire"}                               → takes nothing more, ends when its jobs have ended

and it tells every connection {"exited": "<dir>"} when a job's process has gone. That is a hint: the truth is in the
job's folder (`job_files`). The host is single-threaded and has no event loop, because what it has, every fork gets.
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
from typing import Any, NoReturn

from edge_worker.task_host import job
from edge_worker.task_host.preload import preload

ALREADY_RUNNING = 3
"""Exit status: another host serves this socket."""
MAX_LINE_BYTES = 16 * 1024 * 1024

_log = logging.getLogger("edge_worker.host_client.client")


@dataclass(frozen=True)
class HostSettings:
    """Read as JSON from standard input, so that nothing of it shows in the list of processes.

    Attributes:
        socket: Where to listen; its folder belongs to the worker alone.
        idle_exit_s: End after so long without a job and without a connection.
    """

    socket: str
    worker: str
    gateway_socket: str
    bundles: dict[str, str]
    idle_exit_s: float


class Connection:
    """An agent. One that does not read what it is told is dropped; it finds the truth in the job folders."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = bytearray()

    def lines(self) -> list[bytes] | None:
        """The complete lines that have arrived; None once the connection is of no more use."""
        try:
            data = self.sock.recv(1024 * 1024)
        except BlockingIOError:
            return []
        except OSError:
            return None
        self._buffer += data
        if not data or len(self._buffer) > MAX_LINE_BYTES:
            return None
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest
        return [bytes(line) for line in lines]

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message, or make the connection fail if it would not take all of it at once."""
        line = json.dumps(message).encode() + b"\n"
        try:
            complete = self.sock.send(line) == len(line)
        except OSError:
            complete = False
        if not complete:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)


@dataclass
class Fork:
    """A job's process as long as it is not known whether it has its lock."""

    connection: Connection
    request_id: int


class Host:
    """Listens, forks, reaps."""

    def __init__(self, settings: HostSettings, airflow: str, listener: socket.socket, lock: int) -> None:
        self._settings = settings
        self._airflow = airflow
        self._listener = listener
        self._listening = True
        self._lock = lock
        self._selector = selectors.DefaultSelector()
        self._connections: set[Connection] = set()
        self._jobs: dict[int, str] = {}
        self._undecided: dict[int, Fork] = {}
        self._idle_since = time.monotonic()
        self._wake, self._wake_writer = socket.socketpair()
        self._retiring = False

    def serve(self) -> None:
        """Until retired and without jobs, or idle for too long."""
        self._catch_signals()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake, selectors.EVENT_READ, self._reap)
        while not self._done():
            for key, _ in self._selector.select(timeout=self._settings.idle_exit_s):
                handler: Callable[[], None] = key.data
                handler()
            if self._retiring:
                self._stop_listening()
        self._stop_listening()

    def _done(self) -> bool:
        if self._jobs:
            return False
        if self._retiring:
            return True
        if self._connections:
            self._idle_since = time.monotonic()
        return time.monotonic() - self._idle_since >= self._settings.idle_exit_s

    def _catch_signals(self) -> None:
        for end in (self._wake, self._wake_writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, _number: int, _frame: object) -> None:
        self._retiring = True

    def _stop_listening(self) -> None:
        """Make room for a successor under the same name."""
        if not self._listening:
            return
        self._listening = False
        self._selector.unregister(self._listener)
        Path(self._settings.socket).unlink(missing_ok=True)
        self._listener.close()
        os.close(self._lock)

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
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
                self._obey(connection, json.loads(line))
            except (KeyError, TypeError, ValueError):
                _log.exception("an agent sent a line that is no request")
                self._drop(connection)
                return

    def _drop(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._selector.unregister(connection.sock)
        connection.sock.close()
        self._idle_since = time.monotonic()

    def _obey(self, connection: Connection, request: dict[str, Any]) -> None:
        match request["op"]:
            case "hello":
                connection.tell({"airflow": self._airflow, "pid": os.getpid()})
            case "retire":
                self._retiring = True
            case "run" if self._retiring:
                connection.tell({"id": request["id"], "ok": False, "reason": "the task host is retiring"})
            case "run":
                self._run(connection, request)
            case unknown:
                msg = f"unknown op {unknown!r}"
                raise ValueError(msg)

    def _run(self, connection: Connection, request: dict[str, Any]) -> None:
        ready, ready_writer = os.pipe()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(ready)
            os.close(ready_writer)
            connection.tell({"id": request["id"], "ok": False, "reason": f"cannot fork: {error.strerror}"})
            return
        if pid == 0:
            os.close(ready)
            self._become(request, ready_writer)
        os.close(ready_writer)
        self._jobs[pid] = request["dir"]
        self._undecided[ready] = Fork(connection, request["id"])
        self._selector.register(ready, selectors.EVENT_READ, lambda: self._decided(ready))

    def _become(self, request: dict[str, Any], ready: int) -> NoReturn:
        """Turn the forked process into the job's; nothing of the host may remain open in it."""
        status = 1
        try:
            self._forget()
            settings = job.Settings(self._settings.gateway_socket, self._settings.bundles)
            status = job.run(request, settings, ready)
        except BaseException:  # noqa: BLE001 (a fork must never return into the host's loop)
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _forget(self) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        self._selector.close()
        for descriptor in self._undecided:
            os.close(descriptor)
        for connection in self._connections:
            connection.sock.close()
        self._wake.close()
        self._wake_writer.close()
        if self._listening:
            self._listener.close()
            os.close(self._lock)

    def _decided(self, ready: int) -> None:
        fork = self._undecided.pop(ready)
        self._selector.unregister(ready)
        with os.fdopen(ready, "rb") as pipe:
            text = pipe.read(65536)
        answer = json.loads(text) if text else {"ok": False, "reason": "the job's process died before it took its lock"}
        fork.connection.tell({"id": fork.request_id, **answer})

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake.recv(4096):
                pass
        while self._jobs:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            job_dir = self._jobs.pop(pid, None)
            self._idle_since = time.monotonic()
            for connection in self._connections if job_dir is not None else ():
                connection.tell({"exited": job_dir})


def main() -> int:
    """Become a task host. The settings are the whole of standard input.

    Returns:
        The exit status; `ALREADY_RUNNING` if there is a host for this socket.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    settings = HostSettings(**json.load(sys.stdin))
    _close_stdin()
    # Where user code starts; not the agent's folder, which may be gone one day.
    os.chdir(os.environ["AIRFLOW_HOME"])
    lock = os.open(f"{settings.socket}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return ALREADY_RUNNING
    airflow = preload(settings.worker)
    Host(settings, airflow, _listen(settings.socket), lock).serve()
    return 0


def _close_stdin() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _listen(path: str) -> socket.socket:
    """The name appears only once it is listened on, so that whoever finds it is answered."""
    # No longer than the name itself, for which there is little room.
    draft = Path(path).with_name("n" + Path(path).name[1:])
    draft.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(draft))
    draft.chmod(0o600)
    listener.listen(16)
    listener.setblocking(False)
    draft.replace(path)
    return listener
