"""The setup of a task host, and its start: independent of the agent's life, environment and pipes."""

import base64
import hashlib
import json
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import edge_worker
from edge_worker.state.runtime_dir import MAX_SOCKET_PATH_BYTES
from edge_worker.task_host import job_files

MAIN = Path(edge_worker.__file__).with_name("task_host_main.py")
LOG = "task-host.log"
MAX_LOG_BYTES = 4 * 1024 * 1024

_IDLE_EXIT_S = 900.0
_SIGNALS_RESET = (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
_AIRFLOW_SETTINGS = {
    # The SDK reads them when it is imported, so they hold for every task of a host. The supervisor's own limits would
    # end a task for reasons that the centre and the agent decide: how long an answer may take, and whether a heartbeat
    # counts.
    "AIRFLOW__CORE__TASK_SUCCESS_OVERTIME": str(30 * 24 * 3600),
    "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "1000000000",
    # The agent repeats a call under one request id. The SDK would repeat what has failed for good, as another call.
    "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "1",
    # How often a supervisor asks whether to continue, and the longest it takes to see that its task has ended.
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    # Each example would be a bundle of its own.
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    # The agent uploads the logs.
    "AIRFLOW__LOGGING__REMOTE_LOGGING": "False",
}
_NOT_FROM_OWNER = frozenset({job_files.JOB_MARK, "AIRFLOW__CORE__HOSTNAME_CALLABLE"})
"""The task host names the worker to Airflow itself; see `task_host.preload`."""


@dataclass(frozen=True)
class HostSetup:
    """Everything that decides how a task host behaves. A host with another setup is another host.

    Attributes:
        runtime_python: The interpreter that has Airflow.
        runtime_dir: A short path, for sockets; readable by the worker's user only.
        env: The environment of user code, without what Airflow needs; nothing else of the agent's reaches it.
        bundles: The local folder of each DAG bundle, by the bundle's name.
    """

    runtime_python: Path
    runtime_dir: Path
    state_dir: Path
    gateway_socket: Path
    env: Mapping[str, str]
    bundles: Mapping[str, str]
    hostname: str

    def environment(self) -> dict[str, str]:
        """The host's complete environment."""
        home = Path(self.env.get("AIRFLOW_HOME", self.state_dir / "airflow"))
        defaults = {
            "AIRFLOW_HOME": str(home),
            # Must name an installed driver; no task connects to it.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
            # Only for Airflow's notes on which versions are in use: see `edge_worker.bundles` for the versions.
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "dag_bundles"),
        }
        given = {name: value for name, value in self.env.items() if name not in _NOT_FROM_OWNER}
        return {**defaults, **given, **_AIRFLOW_SETTINGS}

    def fingerprint(self) -> str:
        """A short hash of this setup, of the host's code and of what is installed in the runtime."""
        seed = hashlib.sha256()
        for part in (self.runtime_python, self.state_dir, self.gateway_socket, self.hostname):
            seed.update(f"{part}\0".encode())
        seed.update(json.dumps([self.environment(), dict(self.bundles)], sort_keys=True).encode())
        for path in [MAIN, *sorted(MAIN.with_name("task_host").rglob("*.py"))]:
            seed.update(path.read_bytes())
        for name in installed_distributions(self.runtime_python):
            seed.update(f"{name}\0".encode())
        return base64.urlsafe_b64encode(seed.digest())[:6].decode()

    def socket(self) -> Path:
        """Where a host with this setup listens.

        Raises:
            ValueError: The runtime folder's path is too long for a socket.
        """
        path = self.runtime_dir / f"h{self.fingerprint()}"
        if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
            msg = f"{self.runtime_dir} is too long a path for a socket; choose a shorter runtime folder"
            raise ValueError(msg)
        return path

    def others(self, own: Path) -> Iterator[Path]:
        """The sockets of hosts with another setup."""
        return (path for path in self.runtime_dir.glob("h??????") if path != own)


def installed_airflow(python: Path) -> str | None:
    """Airflow's version, from the files next to an interpreter; None if it is not installed there."""
    for name in ("apache_airflow_core", "apache_airflow"):
        for entry in installed_distributions(python):
            if entry.startswith(f"{name}-"):
                return entry.removeprefix(f"{name}-").removesuffix(".dist-info")
    return None


def installed_distributions(python: Path) -> list[str]:
    """The distributions next to an interpreter, with versions: they change when the runtime is upgraded in place."""
    return sorted(path.name for folder in site_folders(python) for path in folder.glob("*.dist-info"))


def site_folders(python: Path) -> list[Path]:
    """The folders with the packages next to an interpreter."""
    return sorted(python.parent.parent.glob("lib/python3*/site-packages"))


class HostChild:
    """A task host that this agent has started. It outlives the agent; deleting this object has no effect on it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs. Reading the status also reaps a dead process."""
        if self._status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                # The agent was started with SIGCHLD ignored: the kernel reaps children and keeps no status.
                self._status = 255
            else:
                self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def terminate(self) -> None:
        """Sends SIGTERM, if it has not ended."""
        if self.status() is None:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL, if it has not ended."""
        if self.status() is None:
            os.kill(self.pid, signal.SIGKILL)


def start_host(setup: HostSetup, socket: Path) -> HostChild:
    """Starts a task host. It serves the socket once it has imported Airflow, which takes seconds.

    `subprocess` and asyncio are not used: they tie a process to an object, which warns about it, or kills it, when the
    agent ends.

    Raises:
        OSError: The interpreter cannot be executed.
    """
    environment = setup.environment()
    for folder in (setup.state_dir, setup.runtime_dir, Path(environment["AIRFLOW_HOME"])):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = _open_log(setup.state_dir / LOG)
    with tempfile.TemporaryFile(dir=setup.state_dir) as settings:
        settings.write(json.dumps(_settings(setup, socket)).encode())
        settings.seek(0)
        streams = [(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate((settings.fileno(), log, log))]
        try:
            pid = os.posix_spawn(
                setup.runtime_python,
                [str(setup.runtime_python), str(MAIN)],
                environment,
                file_actions=streams,
                setsid=True,
                setsigdef=_SIGNALS_RESET,
            )
        finally:
            os.close(log)
    return HostChild(pid)


def _settings(setup: HostSetup, socket: Path) -> dict[str, object]:
    return {
        "socket": str(socket),
        "hostname": setup.hostname,
        "gateway_socket": str(setup.gateway_socket),
        "bundles": dict(setup.bundles),
        "idle_exit_s": _IDLE_EXIT_S,
    }


def _open_log(path: Path) -> int:
    if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def last_log_line(state_dir: Path) -> str | None:
    """The last line of the host's log, for an error message."""
    try:
        with (state_dir / LOG).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
            lines = log.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return None
    return lines[-1][:300] if lines else None
