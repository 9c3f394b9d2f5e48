"""Runs the quickstart on one machine: each command as written, with paths and addresses of the test in it.

The READMEs of bridge and worker contain commands of the quickstart, and one more.
"""

import asyncio
import json
import os
import secrets
import sys
import venv
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import TypeAlias

from local.processes.child import Child, clean_environment, stop_all
from local.system.airflow import Airflow
from local.system.airflow_api import wait_for_end
from local.system.paths import PROGRAMS
from local.system.ports import choose_port, is_listening
from local.system.proxy import ForwardProxy
from local.system.relay import RelayFacts
from support.pages.pages import NO_RELEASE, ROOT, Page

DAG = "meters"


class Scene:
    """The three machines of the quickstart in one folder.

    Attributes:
        relay_url: By which workers reach the relay.
        worker: The name that the relay gave to the worker.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._data = directory / "edge-relay"
        self._dags = directory / "dags"
        self._environment_dir = directory / "environment"
        self._proxy = ForwardProxy(directory / "proxy")
        self._gate_port, port = choose_port(), choose_port()
        self.relay_url = f"https://localhost:{port}"
        self._jwt_secret = secrets.token_hex(32)
        # A Unix socket must have a short path.
        self._runtime = Path(mkdtemp(prefix="edge-relay-"))
        self._exports: dict[str, str] = {}
        self._children: list[Child] = []
        self._airflow: Airflow | None = None
        self._places = {
            "--host 0.0.0.0 --port 443 ": f"--host 127.0.0.1 --port {port} ",
            "https://relay.example.com": self.relay_url,
            "/srv/edge-relay": str(self._data),
            "/etc/edge-worker/ca.pem": str(directory / "ca.pem"),
            "JWT_SECRET=...": f"JWT_SECRET={self._jwt_secret}",
            "http://user:password@proxy.example.com:3128": self._proxy.url_with_login(),
        }
        self.worker = ""

    async def prepare(self) -> None:
        """Start a proxy, write the DAG, create an environment in which pip finds all dependencies installed."""
        self._dags.mkdir(parents=True)
        [dag] = QUICKSTART.blocks("python")
        (self._dags / f"{DAG}.py").write_text(dag)
        await asyncio.to_thread(venv.create, self._environment_dir, with_pip=True)
        own = next(Path(path) for path in sys.path if Path(path).name == "site-packages")
        packages = next((self._environment_dir / "lib").iterdir()) / "site-packages"
        (packages / "dependencies.pth").write_text(f"{own}\n")
        await self._proxy.start()

    async def stop(self) -> None:
        """Stop everything, the worker first."""
        await stop_all(reversed(self._children))
        if self._airflow is not None:
            await self._airflow.stop()
        await self._proxy.stop()
        rmtree(self._runtime, ignore_errors=True)

    async def pip_install(self, command: str) -> None:
        """Build and install our packages from the checkout, without an index: the dependencies are installed."""
        # "0" means `--no-build-isolation`: pip assigns the variable to its option `build_isolation`.
        offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_CONFIG_FILE": os.devnull}
        assert "Successfully installed edge-relay" in await self._output(command, offline, timeout_s=120)

    async def standalone(self, command: str) -> None:
        """Start the relay. The gate does not use its default port, because a keeper of another test may use it."""
        gate = {
            "RELAY_GATE_URLS": f"http://127.0.0.1:{self._gate_port}",
            "RELAY_GATE_KEY_FILE": str(self._data / "secrets" / "gate.secret"),
        }
        relay = await self._launch("relay", command, gate)
        await relay.wait_until(self._has_facts, timeout_s=60)

    async def export(self, command: str) -> None:
        """Set a variable for later commands."""
        name = command.removeprefix("export ").partition("=")[0]
        self._exports[name] = await self._output(f'{command}; printf %s "${name}"', {})

    async def keeper(self, command: str) -> None:
        """Restart Airflow with all settings of the page, and run the keeper."""
        airflow = await self._start_airflow()
        env = airflow.environment(self._facts()) | {"AIRFLOW__EDGE_RELAY__GATE_PORT": str(self._gate_port)}
        keeper = await self._launch("keeper", command, env)
        await keeper.wait_until(lambda: is_listening(self._gate_port), timeout_s=60)
        await airflow.children["api-server"].wait_until(airflow.is_ready, timeout_s=180)

    async def enroll(self, command: str) -> None:
        """Enrol with the token that the relay has printed."""
        (self._directory / "ca.pem").write_bytes((self._data / "tls" / "ca.pem").read_bytes())
        token = self._log("relay").partition("echo ")[2].split()[0]
        await self._output(command, self._worker_environment(), stdin=f"{token}\n")
        identity = json.loads((self._directory / "state" / "worker.json").read_text())
        self.worker = identity["enrollment"]["worker"]

    async def run_worker(self, command: str) -> None:
        """Run the agent, with the environment of the tests as the runtime."""
        worker = await self._launch("worker", command, self._worker_environment())
        await worker.wait_until(self._has_runtime, timeout_s=120)
        assert self._proxy.tunnels() == [self.relay_url.removeprefix("https://")] * len(self._proxy.tunnels())

    async def unpause(self, command: str) -> None:
        """Unpause the DAG when Airflow has read it."""
        assert self._airflow is not None
        airflow = self._airflow
        await airflow.children["dag-processor"].wait_until(lambda: airflow.api.has_dag(DAG), timeout_s=60)
        await self._output(command, self._airflow_environment())

    async def trigger(self, command: str) -> None:
        """The DAG run succeeds on the worker, and the worker logs the start."""
        assert self._airflow is not None
        await self._output(command, self._airflow_environment())
        api = self._airflow.api
        [run] = (await api.get(f"dags/{DAG}/dagRuns"))["dag_runs"]
        assert await wait_for_end(api, DAG, run["dag_run_id"], timeout_s=120) == "success"
        [task] = await api.task_instances(DAG, run["dag_run_id"])
        assert task["hostname"].partition(".")[0] == self.worker
        assert await api.xcom(DAG, run["dag_run_id"], "read_meter") == 7
        assert "job_started" in self._log("worker")

    async def doctor(self, command: str) -> None:
        """No check fails."""
        env = self._airflow_environment() | {"AIRFLOW__EDGE_RELAY__GATE_PORT": str(self._gate_port)}
        assert "FAILED" not in await self._output(command, env)

    async def more_tokens(self, command: str) -> None:
        """It prints a token."""
        assert "ere_" in await self._output(command, {})

    async def list_workers(self, command: str) -> None:
        """It lists the one worker."""
        assert self.worker in await self._output(command, {})

    async def revoke(self, command: str) -> None:
        """The relay confirms the revocation."""
        assert "revoked" in await self._output(command.replace("NAME", self.worker), {})

    async def _start_airflow(self) -> Airflow:
        for command in QUICKSTART.commands:
            if command.startswith("export AIRFLOW__"):
                await self.export(command)
        settings = {name: value for name, value in self._exports.items() if name.startswith("AIRFLOW__")}
        options = {_section_and_option(name): value for name, value in settings.items()}
        self._airflow = Airflow(
            self._directory / "airflow",
            [self._dags],
            executor=settings["AIRFLOW__CORE__EXECUTOR"],
            gate_ports=[],
            auxiliary_queue="default",
            # So that it must be unpaused, as in most installations.
            options=options
            | {
                ("core", "dags_are_paused_at_creation"): "True",
                ("edge_relay", "nats_urls"): self._facts().nats_url,
                ("edge_relay", "operators_urls"): self._facts().operator_url,
            },
        )
        await self._airflow.prepare()
        await self._airflow.start(self._facts())
        return self._airflow

    def _airflow_environment(self) -> dict[str, str]:
        assert self._airflow is not None
        return self._airflow.environment(self._facts())

    def _worker_environment(self) -> dict[str, str]:
        """The variables exported for the worker, and folders of the test instead of the machine's default folders."""
        exported = {name: value for name, value in self._exports.items() if not name.startswith("AIRFLOW__")}
        folders = {"EDGE_WORKER_STATE_DIR": self._directory / "state", "EDGE_WORKER_RUNTIME_DIR": self._runtime}
        return exported | {name: str(folder) for name, folder in folders.items()}

    def _facts(self) -> RelayFacts:
        facts = json.loads((self._data / "standalone.json").read_text())
        return RelayFacts(
            url=facts["relay_url"],
            operator_url=facts["operator_url"],
            ca_file=Path(facts["ca_file"]),
            nats_url=facts["nats_url"],
            secrets_dir=Path(facts["secrets_dir"]),
            access_token_file=Path(facts["access_token_file"]),
        )

    async def _has_facts(self) -> bool:
        return "workers list" in self._log("relay")

    async def _has_runtime(self) -> bool:
        return "task_host_ready" in self._log("worker")

    def _log(self, name: str) -> str:
        return (self._directory / f"{name}.log").read_text()

    async def _launch(self, name: str, command: str, env: Mapping[str, str]) -> Child:
        """Start a command that runs until it is stopped."""
        argv = ["/bin/sh", "-c", f"exec {self._placed(command)}"]
        log = self._directory / f"{name}.log"
        child = Child(name, argv, log=log, cwd=self._directory, env=self._environment(env))
        self._children.append(child)
        await child.start()
        return child

    async def _output(self, command: str, env: Mapping[str, str], *, stdin: str = "", timeout_s: float = 60) -> str:
        """The output of a command, which must succeed."""
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", self._placed(command)),
            cwd=ROOT,
            env=self._environment(env),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate(stdin.encode())
        assert process.returncode == 0, f"{command}\n{output.decode()}"
        return output.decode()

    def _placed(self, command: str) -> str:
        for place, here in self._places.items():
            command = command.replace(place, here)
        return command

    def _environment(self, env: Mapping[str, str]) -> dict[str, str]:
        path = f"{self._environment_dir / 'bin'}:{PROGRAMS}:{os.environ['PATH']}"
        return clean_environment({**env, "PATH": path})


@asynccontextmanager
async def quickstart_scene(directory: Path) -> AsyncIterator[Scene]:
    """Three machines without any of our packages."""
    scene = Scene(directory)
    try:
        await scene.prepare()
        yield scene
    finally:
        await scene.stop()


def _section_and_option(variable: str) -> tuple[str, str]:
    _, section, option = variable.lower().split("__")
    return section, option


Act: TypeAlias = Callable[[Scene, str], Awaitable[None]]
_EXPORTS = (
    "AIRFLOW__CORE__EXECUTOR='LocalExecutor,edge:edge_bridge.executor.RelayExecutor'",
    "AIRFLOW__EDGE_RELAY__NATS_URLS=nats://127.0.0.1:4222",
    "AIRFLOW__EDGE_RELAY__SECRETS_DIR=/srv/edge-relay/secrets",
    "AIRFLOW__EDGE_RELAY__OPERATORS_URLS=http://127.0.0.1:8444",
    (
        'AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST=\'[{"name": "dags-folder", "classpath": '
        '"edge_bridge.bundles.PublishedBundle", "kwargs": {"inner": {"classpath": '
        '"airflow.dag_processing.bundles.local.LocalDagBundle"}}}]\''
    ),
    "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS=edge_bridge.log_config.LOGGING_CONFIG",
    "AIRFLOW__API_AUTH__JWT_SECRET=...",
    "AIRFLOW__EDGE_RELAY__OFFLINE_TOLERANCE=3600",
    'AIRFLOW__EDGE_RELAY__QUEUES=\'{"ships": {"offline_tolerance": 604800}, "tills": {"queue_timeout": 7200}}\'',
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL=30",
    "HTTPS_PROXY=http://user:password@proxy.example.com:3128",
    "EDGE_WORKER_CA_FILE=/etc/edge-worker/ca.pem",
)
_ACTS: dict[str, Act] = {
    "pip install './schemas[broker]' './relay[server]'": Scene.pip_install,
    "edge-relay standalone --data-dir /srv/edge-relay --host 0.0.0.0 --port 443 --tls-host relay.example.com "
    "--public-url https://relay.example.com": Scene.standalone,
    "pip install './schemas[broker]' ./bridge": Scene.pip_install,
    **dict.fromkeys((f"export {one}" for one in _EXPORTS), Scene.export),
    "airflow edge-relay keeper": Scene.keeper,
    "pip install ./schemas ./edge_worker": Scene.pip_install,
    "edge-worker enroll --relay https://relay.example.com": Scene.enroll,
    "edge-worker run": Scene.run_worker,
    f"airflow dags unpause {DAG}": Scene.unpause,
    f"airflow dags trigger {DAG}": Scene.trigger,
    "edge-relay enroll-token create --data-dir /srv/edge-relay --queues gpu,default --site plant-7": Scene.more_tokens,
    "edge-relay workers list --data-dir /srv/edge-relay": Scene.list_workers,
    "edge-relay workers revoke NAME --reason 'the machine was stolen' --data-dir /srv/edge-relay": Scene.revoke,
}
_INSTALL_RUNTIME = {
    "edge-worker runtime install": "downloads an Airflow from the package index: it is run in "
    "tests/integration/task_host/test_installed_runtime.py (soak)"
}
QUICKSTART = Page("docs/quickstart.md", _ACTS, _INSTALL_RUNTIME)
BRIDGE = Page(
    "bridge/README.md",
    {
        "airflow edge-relay keeper": Scene.keeper,
        "airflow edge-relay doctor": Scene.doctor,
    },
    {"pip install edge-relay-bridge": NO_RELEASE},
)
_WORKER = ("export HTTPS_PROXY=", "edge-worker ")
WORKER = Page(
    "edge_worker/README.md",
    {command: act for command, act in _ACTS.items() if command.startswith(_WORKER)},
    {"pip install edge-relay-worker": NO_RELEASE, **_INSTALL_RUNTIME},
)
