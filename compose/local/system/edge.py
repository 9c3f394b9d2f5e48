"""One edge site: a worker with its own folders, in a sandbox from which it can reach only the forward proxy.

For tests there is also a worker without a sandbox: its agent can be killed and started alone, but a sandbox ends with
its program.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from local.processes.child import Child, clean_environment
from local.sandbox.network_sandbox import SandboxFacts, read_facts
from local.system.paths import COMPOSE, PROGRAMS
from local.system.proxy import ForwardProxy
from local.system.relay import RelayFacts

_MAX_RUNTIME_PATH_BYTES = 80


class EdgeWorker:
    """A worker: it enrolls once and runs in a network sandbox.

    Attributes:
        name: Name of its site and of its folder.
        state: Folder with the worker's identity, jobs and logs.
        slots: How many tasks run at once.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        *,
        relay: RelayFacts,
        relay_url: str,
        proxy: ForwardProxy,
        probes: Mapping[str, str],
        slots: int = 4,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.directory, self.slots = name, directory, slots
        self.state = directory / "state"
        self._relay, self._relay_url, self._proxy, self._probes = relay, relay_url, proxy, probes
        self._extra = dict(extra or {})
        self._runtime = _short_folder(directory / "run")
        self._facts_file = directory / "sandbox.json"
        self.child = self._program("worker", ["run"])

    @property
    def sandbox(self) -> SandboxFacts:
        """The report of its sandbox."""
        return read_facts(self._facts_file)

    @property
    def worker_name(self) -> str:
        """The name that the relay assigned to it."""
        return str(self._enrollment()["worker"])

    @property
    def hostname(self) -> str:
        """What Airflow shows as the hostname of its tasks."""
        enrolled = self._enrollment()
        return f"{enrolled['worker']}.{enrolled['site']}"

    def _enrollment(self) -> dict[str, Any]:
        enrolled: dict[str, Any] = json.loads((self.state / "worker.json").read_text())["enrollment"]
        return enrolled

    async def enroll(self, token: str) -> None:
        """Create its folder and exchange the token for an identity.

        Raises:
            ChildFailed: The relay rejected the token or could not be reached.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        enrolling = self._program("enroll", ["enroll", "--relay", self._relay_url, "--token-file", "-"])
        await enrolling.start(stdin=token.encode() + b"\n")
        await enrolling.wait_for_success(60)

    async def start(self) -> None:
        """Start the worker; returns before its first poll."""
        self._runtime.mkdir(mode=0o700, exist_ok=True)
        self._facts_file.unlink(missing_ok=True)
        self.child = self._program("worker", ["run"])
        await self.child.start()

    async def is_up(self) -> bool:
        """Whether its sandbox is complete and the probes have been tried."""
        return self._facts_file.exists()

    async def stop(self) -> None:
        """Drain the worker, then end all processes in its sandbox."""
        await self.child.stop(grace_s=10)
        rmtree(self._runtime, ignore_errors=True)

    def _program(self, name: str, arguments: list[str]) -> Child:
        """The worker's program, in its sandbox."""
        options = ["--proxy-port", str(self._proxy.port), "--facts", str(self._facts_file)]
        options += [f"--probe={probe}={address}" for probe, address in self._probes.items()]
        sandbox = [sys.executable, "-m", "local.sandbox.network_sandbox", *options, "--"]
        return self._child(name, sandbox, arguments, proxy_port="{port}")

    def _child(self, name: str, wrapper: list[str], arguments: list[str], *, proxy_port: int | str) -> Child:
        argv = [*wrapper, str(PROGRAMS / "edge-worker"), *arguments]
        log = self.directory / f"{name}.log"
        env = self._environment(proxy_port) | ({"PYTHONPATH": str(COMPOSE)} if wrapper else {})
        return Child(f"{self.name} {name}", argv, log=log, cwd=self.directory, env=env)

    def _environment(self, proxy_port: int | str) -> dict[str, str]:
        return clean_environment(
            {
                "HTTPS_PROXY": self._proxy.url_with_login(proxy_port),
                "EDGE_WORKER_STATE_DIR": str(self.state),
                "EDGE_WORKER_CA_FILE": str(self._relay.ca_file),
                "EDGE_WORKER_RUNTIME_DIR": str(self._runtime),
                "EDGE_WORKER_SLOTS": str(self.slots),
                "EDGE_WORKER_AUXILIARY_JOBS": "callback,connection_test",
                "EDGE_WORKER_DRAIN_TIMEOUT_S": "3",
            }
            | self._extra
        )


class UnsandboxedWorker(EdgeWorker):
    """A worker without a sandbox: its agent can die and restart while its machine stays up (`edge_machine`)."""

    @property
    def agent_pid(self) -> int | None:
        """The agent's process id, while it runs."""
        try:
            return int(self._pid_file.read_text())
        except FileNotFoundError:
            return None

    async def start(self) -> None:
        """Start the worker, on a machine that has just booted."""
        self._pid_file.unlink(missing_ok=True)
        await super().start()

    async def is_up(self) -> bool:
        """Whether the agent was started."""
        return self.agent_pid is not None

    def signal_agent(self, signum: signal.Signals) -> None:
        """Send a signal to the agent alone, not to the processes that it started: SIGKILL is a crash of the agent.

        Raises:
            ProcessLookupError: The agent does not run.
        """
        if (agent := self.agent_pid) is None:
            raise ProcessLookupError
        os.kill(agent, signum)

    def start_agent(self) -> None:
        """Start the agent again, once `agent_pid` is None."""
        os.kill(self.child.pid, signal.SIGUSR1)

    async def crash(self) -> None:
        """Kill agent, task host and tasks at once, as when the machine loses its power. `start` boots it again."""
        await self.child.crash()

    def _program(self, name: str, arguments: list[str]) -> Child:
        options = ["--pid-file", str(self._pid_file), "--"]
        machine = [sys.executable, "-m", "local.system.edge_machine", *options] if name == "worker" else []
        return self._child(name, machine, arguments, proxy_port=self._proxy.port)

    @property
    def _pid_file(self) -> Path:
        return self.directory / "agent.pid"


def _short_folder(wanted: Path) -> Path:
    """The folder itself, or a temporary folder if its path is too long for the name of a Unix socket."""
    return wanted if len(os.fsencode(wanted)) <= _MAX_RUNTIME_PATH_BYTES else Path(mkdtemp(prefix="edge-relay-"))
