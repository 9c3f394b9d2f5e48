"""How agents and a task host speak: the socket, the messages, and the host's end of a connection.

Each message is a JSON object in one line:

    {"op": "hello"}                                → {"airflow": "3.3.2", "pid": 4711}
    {"op": "run", "id": 1, "job": {…}, "dir": "…"} → {"id": 1, "ok": true} once the job's process holds its lock,
                                                     or {"id": 1, "ok": false, "reason": "…"}
    {"op": "retire"}                               → the host accepts nothing more, and ends when its jobs have ended

The host reports {"exited": "<dir>"} to every connection when the process of a job has gone. The report is a hint: the
files in the job's folder decide (`job_files`).
"""

import contextlib
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, Required, TypedDict

MAX_LINE_BYTES = 16 * 1024 * 1024


class Offline(TypedDict):
    """The offline contract of a job's queue; `fence_after_s` is None if the job has no fence."""

    tolerance_s: float
    fence_after_s: float | None


class BundleName(TypedDict):
    """Which DAG bundle a job needs; Airflow adds the version."""

    name: str


class CallbackData(TypedDict, total=False):
    """The function of a callback, and its arguments."""

    path: str
    kwargs: dict[str, object] | None


class Callback(TypedDict):
    """A callback of Airflow."""

    id: str
    data: CallbackData


class Workload(TypedDict, total=False):
    """What Airflow's executor passes on, as JSON. Which keys there are depends on `type`."""

    type: str
    ti: dict[str, object]
    bundle_info: BundleName
    dag_rel_path: str
    sentry_integration: str | None
    callback: Callback
    connection_test_id: str
    connection_id: str
    timeout: int


class JobRequest(TypedDict):
    """A job to run."""

    id: str
    workload: Workload
    core_executor: str
    offline: Offline


class RunRequest(TypedDict):
    """The request to run a job.

    Attributes:
        dir: The job's folder.
        code: The folder of the published version of the bundle that the job names; None if it names none.
    """

    id: int
    job: JobRequest
    dir: str
    code: str | None
    log_max_bytes: int


class Request(TypedDict, total=False):
    """Any request; that of `run` has all keys of `RunRequest`."""

    op: Required[str]
    id: int


class LaunchAnswer(TypedDict):
    """Whether a job runs here; `releases` if another worker could run it."""

    ok: bool
    reason: NotRequired[str]
    releases: NotRequired[bool]


class Connection:
    """A connection of an agent. One that does not read its messages is closed; the job folders show it all."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = bytearray()

    def lines(self) -> list[bytes] | None:
        """The complete lines that have arrived; None once the connection can no longer be used."""
        try:
            data = self.sock.recv(1024 * 1024)
        except BlockingIOError:
            return []
        except OSError:
            return None
        self._buffer += data
        if not data or len(self._buffer) > MAX_LINE_BYTES:
            return None
        *lines, incomplete = self._buffer.split(b"\n")
        self._buffer = incomplete
        return [bytes(line) for line in lines]

    def send(self, message: Mapping[str, object]) -> None:
        """Sends a message, or shuts the connection down if the socket does not accept all of it at once."""
        line = json.dumps(message).encode() + b"\n"
        try:
            complete = self.sock.send(line) == len(line)
        except OSError:
            complete = False
        if not complete:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)


@dataclass
class Endpoint:
    """The socket on which a host listens, and the lock that keeps a second host from the same name."""

    path: Path
    listener: socket.socket
    lock: int
    is_open: bool = True

    def close(self) -> None:
        """Makes room for a successor under the same name."""
        self.path.unlink(missing_ok=True)
        self.close_in_fork()

    def close_in_fork(self) -> None:
        """Closes the descriptors; the name stays."""
        self.is_open = False
        self.listener.close()
        os.close(self.lock)


def listen(path: Path) -> socket.socket:
    """A socket that listens under a name.

    The name appears only once the host listens, so every agent that finds it gets an answer.
    """
    # No longer than the name itself, because the path of a socket is limited.
    draft = path.with_name("n" + path.name[1:])
    draft.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(draft))
    draft.chmod(0o600)
    listener.listen(16)
    listener.setblocking(False)
    draft.replace(path)
    return listener
