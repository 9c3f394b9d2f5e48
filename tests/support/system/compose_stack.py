"""The containers of compose/compose.yaml as a project of their own, for the tests in tests/compose."""

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from local.system.airflow_api import AirflowApi, ApiRefused
from local.system.ports import choose_port

COMPOSE = Path(__file__).parents[3] / "compose"
WITHOUT_GRAFANA = "WITHOUT_GRAFANA"
"""Set where there is no image of Grafana."""
LONG_S = 600
_T = TypeVar("_T")
_PORTS = ("AIRFLOW_PORT", "RELAY_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")


class Stack:
    """One project: its own volumes, networks and ports.

    Args:
        name: Of the project.
        dags: A folder that gets the DAGs, readable by the containers' users.
        profiles: Which are active in every call.
        files: Compose files besides the first one.
        env: Settings.
    """

    def __init__(
        self,
        name: str,
        dags: Path,
        profiles: Iterable[str],
        *,
        files: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._name = name
        without_grafana = ["without-grafana.yaml"] if os.environ.get(WITHOUT_GRAFANA) else []
        self._files = [str(COMPOSE / file) for file in ("compose.yaml", *without_grafana, *files)]
        _fill(dags)
        self._profiles = [word for profile in profiles for word in ("--profile", profile)]
        self.ports = {port: choose_port() for port in _PORTS}
        self._env = {
            **os.environ,
            **{name: str(port) for name, port in self.ports.items()},
            "DAGS_DIR": str(dags),
            "AIRFLOW_DAGS_ARE_PAUSED": "false",
            "AIRFLOW_DAGS_REFRESH_S": "5",
            **(env or {}),
        }

    def compose(self, *words: str, data: bytes | None = None, check: bool = True) -> bytes:
        """Run `docker compose` and return what it wrote.

        Raises:
            AssertionError: It failed; the text has its words.
        """
        argv = [
            "docker",
            "compose",
            "-p",
            self._name,
            *(word for file in self._files for word in ("-f", file)),
        ]
        done = subprocess.run(
            [*argv, *self._profiles, *words],
            env=self._env,
            input=data,
            capture_output=True,
            timeout=LONG_S,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"{' '.join(words)}: {done.stderr.decode()[-3000:]}"
        return done.stdout

    def run(self, service: str, *words: str, data: bytes | None = None) -> str:
        """The output of a command of one of the tools."""
        return self.compose("run", "--rm", "-T", service, *words, data=data).decode().strip()

    def shell(self, command: str, folder: Path) -> tuple[int, str]:
        """Run a command of the documentation in a folder, for this project; returns its status and its output."""
        project = {"COMPOSE_PROJECT_NAME": self._name, "COMPOSE_FILE": ":".join(self._files)}
        places = {
            "edge-relay_vault": f"{self._name}_vault",
            "debian:bookworm-slim": os.environ.get("IMAGE_DEBIAN", "debian:bookworm-slim"),
        }
        for place, here in places.items():
            command = command.replace(place, here)
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=folder,
            env={**self._env, **project},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LONG_S,
            check=False,
        )
        return done.returncode, done.stdout.decode(errors="replace")

    def states(self) -> dict[str, str]:
        """By container's name: `healthy`, or what else its state is."""
        lines = self.compose("ps", "--all", "--format", "json").decode().splitlines()
        found = [json.loads(line) for line in lines]
        return {one["Name"].removeprefix(f"{self._name}-"): one["Health"] or one["State"] for one in found}

    def healthy(self, *containers: str) -> bool:
        """Whether all of these are."""
        states = self.states()
        return all(states.get(container) == "healthy" for container in containers)

    def kill(self, container: str) -> None:
        """SIGKILL, as a crash would."""
        self._docker("kill", "--signal", "KILL", f"{self._name}-{container}")

    def start(self, container: str) -> None:
        """Start killed services, and wait until they report that they are healthy."""
        self._docker("start", f"{self._name}-{container}")
        until(lambda: self.healthy(container), f"{container} is healthy")

    def inspect(self, *names: str) -> list[dict[str, Any]]:
        """What Docker knows of containers or networks."""
        found: list[dict[str, Any]] = json.loads(self._docker("inspect", *(f"{self._name}{name}" for name in names)))
        return found

    def containers(self) -> list[str]:
        """The names of all containers, for `inspect`."""
        return [f"-{name}" for name in self.states()]

    def memory(self) -> dict[str, str]:
        """The memory that each container uses now."""
        lines = self._docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}").splitlines()
        mine = (line.split(" ") for line in lines if line.startswith(f"{self._name}-"))
        return {words[0].removeprefix(f"{self._name}-"): words[1] for words in sorted(mine)}

    def logs(self) -> str:
        """The ends of all logs."""
        return self.compose("logs", "--tail", "15", check=False).decode(errors="replace")

    def airflow(self, work: Callable[[AirflowApi], Awaitable[_T]]) -> _T:
        """Do something with Airflow's REST API."""
        password = self.run("secret", "airflow.password")

        async def with_api() -> _T:
            api = AirflowApi(f"http://127.0.0.1:{self.ports['AIRFLOW_PORT']}", "admin", password)
            try:
                return await work(api)
            finally:
                await api.close()

        return asyncio.run(with_api())

    def down(self) -> None:
        """Take everything away, volumes too."""
        self.compose("--profile", "*", "down", "--volumes", "--timeout", "10", check=False)

    @staticmethod
    def _docker(*words: str) -> str:
        done = subprocess.run(["docker", *words], capture_output=True, timeout=LONG_S, check=True)
        return done.stdout.decode()


@dataclass(frozen=True)
class Core:
    """A core whose demo DAG has run.

    Attributes:
        run: The DAG run.
    """

    stack: Stack
    run: str


def until(holds: Callable[[], object], what: str, *, timeout_s: float = 120) -> None:
    """Wait until something holds.

    Raises:
        AssertionError: It does not.
    """
    give_up = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < give_up, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.5)


async def answered(ask: Callable[[], Awaitable[_T]], accept: Callable[[_T], bool], *, timeout_s: float = 300) -> _T:
    """Ask until the answer is the right one; meanwhile Airflow may not be there.

    Raises:
        TimeoutError: It never was.
    """
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                if accept(found := await ask()):
                    return found
            except (aiohttp.ClientError, ApiRefused, TimeoutError):
                pass  # not up yet, or restarting
            await asyncio.sleep(0.5)


def _fill(dags: Path) -> None:
    for source in (COMPOSE / "local" / "demo" / "dags", Path(__file__).parents[2] / "compose" / "dags"):
        shutil.copytree(source, dags, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    for path in (dags, *dags.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
