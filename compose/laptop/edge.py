"""One edge site: a worker with its own folders, in a box from which only the forward proxy can be reached."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from laptop.airflow import copy_dags
from laptop.edge_box import Facts, read_facts
from laptop.processes import Child, clean_environment
from laptop.proxy import ForwardProxy
from laptop.relay import PROGRAMS, RelayFacts

_COMPOSE = Path(__file__).parents[1]
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
        self.child = self._box("worker", ["run"])

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
        enrolling = self._box("enroll", ["enroll", "--relay", self._relay_url, "--token-file", "-"])
        await enrolling.start(stdin=token.encode() + b"\n")
        await enrolling.succeed(60)

    async def start(self) -> None:
        """Run it; returns before its first poll."""
        self._runtime.mkdir(mode=0o700, exist_ok=True)
        self._facts.unlink(missing_ok=True)
        self.child = self._box("worker", ["run"])
        await self.child.start()

    async def boxed(self) -> bool:
        """Whether its box is closed and tried out."""
        return self._facts.exists()

    async def stop(self) -> None:
        """Drain it, then take the box away with whatever is left in it."""
        await self.child.stop(grace_s=10)
        rmtree(self._runtime, ignore_errors=True)

    def _box(self, name: str, arguments: list[str]) -> Child:
        probes = [f"--probe={probe}={address}" for probe, address in self._probes.items()]
        argv = [
            *(sys.executable, "-m", "laptop.edge_box", "--proxy-port", str(self._proxy.port)),
            *("--facts", str(self._facts), *probes, "--"),
            *(str(PROGRAMS / "edge-worker"), *arguments),
        ]
        log = self.directory / f"{name}.log"
        return Child(f"{self.name} {name}", argv, log=log, cwd=self.directory, env=self._environment())

    def _environment(self) -> dict[str, str]:
        return clean_environment(
            {
                "PYTHONPATH": str(_COMPOSE),  # for the box; the box takes it away
                "HTTPS_PROXY": self._proxy.url_with_login("{port}"),
                "EDGE_WORKER_STATE_DIR": str(self.state),
                "EDGE_WORKER_CA_FILE": str(self._relay.ca_file),
                "EDGE_WORKER_BUNDLES": json.dumps({"dags-folder": str(self.directory / "dags")}),
                "EDGE_WORKER_RUNTIME_DIR": str(self._runtime),
                "EDGE_WORKER_SLOTS": str(self.slots),
                "EDGE_WORKER_DRAIN_TIMEOUT_S": "3",
            }
            | self._extra
        )


def _short_folder(wanted: Path) -> Path:
    """The folder itself, or a temporary one if its path is too long for the name of a Unix socket."""
    return wanted if len(os.fsencode(wanted)) <= _MAX_RUNTIME_PATH_BYTES else Path(mkdtemp(prefix="edge-relay-"))
