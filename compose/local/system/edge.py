"""One edge site: a worker with its own folders, in a box from which only the forward proxy can be reached.

For tests also one whose agent can be killed and started alone, which a box does not survive.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from local.processes.child import Child, clean_environment
from local.sandbox.network_sandbox import Facts, read_facts
from local.system.airflow import copy_dags
from local.system.proxy import ForwardProxy
from local.system.relay import PROGRAMS, RelayFacts

_COMPOSE = Path(__file__).parents[2]
_MAX_RUNTIME_PATH_BYTES = 80


class EdgeWorker:
    """A worker: enrolled once, run in its box.

    Attributes:
        name: The site it is enrolled for, and the folder.
        state: Identity, jobs and logs of the worker.
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
        self._facts = directory / "box.json"
        self.child = self._program("worker", ["run"])

    @property
    def facts(self) -> Facts:
        """What its box found out."""
        return read_facts(self._facts)

    @property
    def worker_name(self) -> str:
        """The name that the relay gave it."""
        identity = json.loads((self.state / "worker.json").read_text())
        return str(identity["enrollment"]["worker"])

    async def enroll(self, token: str, dags: Sequence[Path]) -> None:
        """Make its folders and trade the token for an identity.

        Raises:
            ChildFailed: It was refused or could not reach the relay.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        copy_dags(dags, self.directory / "dags")
        enrolling = self._program("enroll", ["enroll", "--relay", self._relay_url, "--token-file", "-"])
        await enrolling.start(stdin=token.encode() + b"\n")
        await enrolling.succeed(60)

    async def start(self) -> None:
        """Run it; returns before its first poll."""
        self._runtime.mkdir(mode=0o700, exist_ok=True)
        self._facts.unlink(missing_ok=True)
        self.child = self._program("worker", ["run"])
        await self.child.start()

    async def up(self) -> bool:
        """Whether its box is closed and tried out."""
        return self._facts.exists()

    async def stop(self) -> None:
        """Drain it, then take the box away with whatever is left in it."""
        await self.child.stop(grace_s=10)
        rmtree(self._runtime, ignore_errors=True)

    def _program(self, name: str, arguments: list[str]) -> Child:
        """The worker's program, in its surroundings."""
        probes = [f"--probe={probe}={address}" for probe, address in self._probes.items()]
        box = ["local.sandbox.network_sandbox", "--proxy-port", str(self._proxy.port), "--facts", str(self._facts), *probes]
        return self._child(name, [sys.executable, "-m", *box, "--"], arguments, proxy_port="{port}")

    def _child(self, name: str, around: list[str], arguments: list[str], *, proxy_port: int | str) -> Child:
        argv = [*around, str(PROGRAMS / "edge-worker"), *arguments]
        log = self.directory / f"{name}.log"
        env = self._environment(proxy_port) | ({"PYTHONPATH": str(_COMPOSE)} if around else {})
        return Child(f"{self.name} {name}", argv, log=log, cwd=self.directory, env=env)

    def _environment(self, proxy_port: int | str) -> dict[str, str]:
        return clean_environment(
            {
                "HTTPS_PROXY": self._proxy.url_with_login(proxy_port),
                "EDGE_WORKER_STATE_DIR": str(self.state),
                "EDGE_WORKER_CA_FILE": str(self._relay.ca_file),
                "EDGE_WORKER_BUNDLES": json.dumps({"dags-folder": str(self.directory / "dags")}),
                "EDGE_WORKER_RUNTIME_DIR": str(self._runtime),
                "EDGE_WORKER_SLOTS": str(self.slots),
                "EDGE_WORKER_DRAIN_TIMEOUT_S": "3",
            }
            | self._extra
        )


class OpenWorker(EdgeWorker):
    """A worker without walls, whose agent can die and come back while its machine stays: `local.system.edge_machine`."""

    @property
    def agent(self) -> int | None:
        """The agent's process id, while it runs."""
        try:
            return int(self._pid_file.read_text())
        except FileNotFoundError:
            return None

    async def start(self) -> None:
        """Run it, on a machine that begins anew."""
        self._pid_file.unlink(missing_ok=True)
        await super().start()

    async def up(self) -> bool:
        """Whether the agent was started."""
        return self.agent is not None

    def signal_agent(self, signum: signal.Signals) -> None:
        """Send the agent a signal, and nothing to what it started: SIGKILL is a crash of it alone.

        Raises:
            ProcessLookupError: It does not run.
        """
        if (agent := self.agent) is None:
            raise ProcessLookupError
        os.kill(agent, signum)

    def start_agent(self) -> None:
        """Start the agent again, once `agent` is None."""
        os.kill(self.child.pid, signal.SIGUSR1)

    async def crash(self) -> None:
        """Take agent, task host and tasks away at once, as when the machine loses its power. `start` brings it back."""
        await self.child.crash()

    def _program(self, name: str, arguments: list[str]) -> Child:
        stays = name == "worker"
        machine = [sys.executable, "-m", "local.system.edge_machine", "--pid-file", str(self._pid_file), "--"] if stays else []
        return self._child(name, machine, arguments, proxy_port=self._proxy.port)

    @property
    def _pid_file(self) -> Path:
        return self.directory / "agent.pid"


def _short_folder(wanted: Path) -> Path:
    """The folder itself, or a temporary one if its path is too long for the name of a Unix socket."""
    return wanted if len(os.fsencode(wanted)) <= _MAX_RUNTIME_PATH_BYTES else Path(mkdtemp(prefix="edge-relay-"))
